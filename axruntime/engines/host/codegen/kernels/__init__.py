"""One module for each kernel family: its parameters, what it is specialised by, the bytes it reaches, and its code generator."""
