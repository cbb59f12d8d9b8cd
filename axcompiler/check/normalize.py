"""One spelling for what ONNX files spell in many ways: functions inlined, opset 13 or later, every node named, no remarks."""

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import NodeProto, defs, inliner, version_converter

from axforge.axcompiler.check.load import opset_of
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.net import Net, reads

#: the first opset whose DequantizeLinear takes a scale a channel
TARGET_OPSET = 13


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the bodies of its own functions in place of their calls."""
    return inliner.inline_local_functions(model) if model.functions else model


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


def name_nodes(nodes: list[NodeProto]) -> None:
    """Give every node a name that is its own: the one it has, else operator and first result, with a number where taken."""
    names = Names()
    for node in nodes:
        node.name = names.fresh(node.name or f"{node.op_type}_{next((o for o in node.output if o), '')}")


def strip(message: Message) -> None:
    """Clear doc strings and metadata in a model part, recursively: they decide nothing."""
    for field in ("doc_string", "metadata_props", "denotation"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.name not in ("raw_data",):
            for part in value if _repeated(value) else (value,):
                strip(part)


def _repeated(value: object) -> bool:
    return not isinstance(value, Message)


def sort_nodes(net: Net) -> None:
    """Put the nodes in an order in which each value is made before it is read; the file's order where that is one."""
    made = {o for n in net.nodes for o in n.output}
    done: set[str] = set()
    waiting, ordered = list(net.nodes), []
    while waiting:
        rest = []
        for node in waiting:
            if all(name in done or name not in made for name in reads(node)):
                ordered.append(node)
                done.update(node.output)
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise CompileError("the graph has a cycle", where=rest[0].name, fix="Export the model again.")
        waiting = rest
    net.nodes = ordered
