"""Old opsets become newer ones."""

from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnx import defs, version_converter

from axforge.axcompiler.check.load import opset_of
from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.passes import PassResult

#: the first opset whose DequantizeLinear takes a scale for each channel
TARGET_OPSET = 13


@dataclass(frozen=True)
class ConvertOpset(ModelPass):
    """Bring the model to the first opset from 13 on in which its operators mean the same.

    model of opset 9      becomes      model of opset 13

    The newest opsets have operators that onnxruntime does not, QuantizeLinear among them, so the opset is no newer than necessary.
    where: what an error names.
    """

    at: ClassVar[tuple[int, ...]] = (180,)
    where: str = ""

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once. Raises CompileError if onnx cannot convert it."""
        before = opset_of(model)
        converted = convert_opset(model, self.where)
        after = opset_of(converted)
        return PassResult(converted, (f"opset {before} became {after}",) if converted is not model or before != after else ())


def convert_opset(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model at the first opset from 13 on in which its operators mean the same. Raises CompileError if onnx cannot convert it.

    The newest opsets have operators that onnxruntime does not, QuantizeLinear among them, so none is newer than need be.
    """
    opset = opset_of(model)
    if opset == 0:
        return model
    lowest = max(_since(model.graph, opset), TARGET_OPSET) if opset >= TARGET_OPSET else TARGET_OPSET
    if opset >= TARGET_OPSET or _same_schemas(model.graph, opset):
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = min(lowest, max(opset, TARGET_OPSET))
        return model
    try:
        return version_converter.convert_version(model, TARGET_OPSET)
    except (RuntimeError, ValueError, version_converter.ConvertError) as e:
        raise CompileError(
            f"the model uses opset {opset}, and onnx cannot convert it to opset {TARGET_OPSET}: {' '.join(str(e).split())}",
            where=where,
            fix=f"Export the model again with opset {TARGET_OPSET} or later (17 is a good choice).",
        ) from e


def _since(graph: onnx.GraphProto, opset: int) -> int:
    """The opset at which the newest operator in the graph came to be as it is."""
    newest = 1
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            try:
                newest = max(newest, defs.get_schema(node.op_type, opset).since_version)
            except defs.SchemaError:
                return opset
        newest = max(newest, *(_since(g, opset) for a in node.attribute for g in (a.g, *a.graphs)), 1)
    return newest


def _same_schemas(graph: onnx.GraphProto, opset: int) -> bool:
    """Whether every operator in the graph is the same one at opset 13, so that only the number has to change."""
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            try:
                then, now = defs.get_schema(node.op_type, opset), defs.get_schema(node.op_type, TARGET_OPSET)
            except defs.SchemaError:
                return False
            if then.since_version != now.since_version:
                return False
        if not all(_same_schemas(g, opset) for a in node.attribute for g in (a.g, *a.graphs)):
            return False
    return True
