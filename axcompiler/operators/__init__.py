"""What axforge knows of each ONNX operator, in one place: constraints, quantization, lowering, and the facts that other packages ask.

Every module of this folder is imported here and registers its operators, so a new operator is one new file.
"""

from axforge.axcompiler.operators.base import (
    Operator,
    channel_groups,
    find,
    find_elementwise,
    is_random,
    multiply_adds,
    refusal,
    registered,
    state_inputs,
)
from axforge.axcompiler.registry import load_modules

__all__ = ["Operator", "channel_groups", "find", "find_elementwise", "is_random", "multiply_adds", "refusal", "registered", "state_inputs"]

load_modules(__name__)
