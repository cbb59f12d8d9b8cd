"""From kernels to machine code: compiled once, linked into one block, and kept in a cache."""
