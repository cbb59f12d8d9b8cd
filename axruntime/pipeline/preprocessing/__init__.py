"""Steps between a picture and the network, one module each."""
