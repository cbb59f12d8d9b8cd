"""Kinds of remote: one module for each, which registers itself for the schemes of its URLs. A file in this folder is found by itself."""
