"""What axforge knows of each ONNX operator, in one place: constraints, quantization, lowering."""

from axforge.axcompiler.operators import conv, elementwise, functions, indexing, matmul, pooling, reduce, resize, shape, softmax
from axforge.axcompiler.operators.base import NodeView, Operator, find, refusal

FAMILIES = (conv, elementwise, functions, indexing, matmul, pooling, reduce, resize, shape, softmax)

__all__ = ["FAMILIES", "NodeView", "Operator", "find", "refusal"]
