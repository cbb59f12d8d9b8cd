"""What axforge knows of each ONNX operator, in one place: constraints, quantization, lowering."""

from axcompiler.operators.base import NodeView, Operator, find, refusal

__all__ = ["NodeView", "Operator", "find", "refusal"]
