"""QuantizeLinear and DequantizeLinear of onnxruntime become those of ONNX."""

from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnx import TensorProto, version_converter

from axforge.axcompiler.check.load import opset_of
from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.passes import PassResult

MICROSOFT = "com.microsoft"
_QDQ = ("QuantizeLinear", "DequantizeLinear")
#: the first opset whose QuantizeLinear gives 16 bits, and whose DequantizeLinear takes them
WIDE_OPSET = 21
_WIDE = (TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT4)


@dataclass(frozen=True)
class MicrosoftQdq(ModelPass):
    """Write onnxruntime's own QuantizeLinear and DequantizeLinear as those of ONNX.

    x ── com.microsoft.QuantizeLinear ── y      becomes      x ── QuantizeLinear ── y

    onnxruntime uses them for 16-bit and 4-bit codes below opset 21, to which such a model is converted. where: what an error names.
    """

    at: ClassVar[tuple[int, ...]] = (170,)
    where: str = ""

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once. Raises CompileError if onnx cannot convert it."""
        found = [n for n in model.graph.node if n.domain == MICROSOFT and n.op_type in _QDQ]
        if not found:
            return PassResult(model)
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        wide = any(kinds.get(name) in _WIDE for n in found for name in n.input)
        for node in found:
            node.domain = ""
        opset = opset_of(model)
        if wide and opset < WIDE_OPSET:
            model = _converted(model, opset, self.where)
        return PassResult(model, tuple(f"'{node.name}' is ONNX's" for node in found))


def _converted(model: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, WIDE_OPSET)
    except (RuntimeError, ValueError, version_converter.ConvertError) as e:
        detail = " ".join(str(e).split())
        raise CompileError(
            f"the model has 16-bit or 4-bit codes in opset {opset}, and onnx cannot convert it to opset {WIDE_OPSET}: {detail}",
            where=where,
            fix=f"Quantize the model again with 8-bit codes, or export it with opset {WIDE_OPSET} first.",
        ) from e
