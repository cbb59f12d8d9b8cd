"""Steps between the network and the result, one module each: decoders, which read outputs, and what works on their boxes."""
