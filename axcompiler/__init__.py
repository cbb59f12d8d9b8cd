"""axcompiler: ONNX in, int8 `.axmodel` out. No I/O outside the paths it is given.

Importing this package loads nothing heavy; see `axcompiler.api` for the library and `python -m axforge.axcompiler --help`.
"""

__version__ = "0.1.0"
