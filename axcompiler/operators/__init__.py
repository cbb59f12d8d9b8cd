"""What axforge knows of each ONNX operator, in one place: constraints, quantization, lowering, and the facts that other packages ask.

Every module of this folder is imported here and registers its operators, so a new operator is one new file.
"""

import importlib
import pkgutil

from axforge.axcompiler.operators.base import Operator, find, find_elementwise, is_random, refusal, registered

__all__ = ["Operator", "find", "find_elementwise", "is_random", "refusal", "registered"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
