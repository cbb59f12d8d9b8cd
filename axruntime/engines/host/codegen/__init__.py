"""From kernels to LLVM IR text."""
