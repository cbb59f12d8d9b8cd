"""axforge: from ONNX to an int8 `.axmodel`, and running it without hardware.

The packages are the folders at the top of the repository; links in `src/axforge` give them their import names:
`axcompiler/ir.py` is `axforge.axcompiler.ir`. So no name of ours can meet a `tasks.py` or `cache.py` of a user's project.
Importing this package loads nothing heavy.
"""

__version__ = "0.1.0"
