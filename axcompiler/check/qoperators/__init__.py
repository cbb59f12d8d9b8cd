"""Quantized operators of ONNX and of onnxruntime (`QLinearConv`, `QGemm`, ...) written as Q and DQ around their float operators.

Each module registers its operators (`base.REWRITES`); the pass `QdqFromOperators` applies them. A module that is here is found.
"""

from axforge.axcompiler.check.qoperators.base import REWRITES, FloatForm, IntegerTensor, Unreadable
from axforge.axcompiler.registry import load_modules

__all__ = ["REWRITES", "FloatForm", "IntegerTensor", "Unreadable"]

load_modules(__name__)
