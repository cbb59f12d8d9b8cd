"""From operators to steps: the memory of every tensor, what operators share, and `operators`, one function for each operator."""
