"""From a planned model to the fused graph: tensors are declared, items lowered, islands cut out."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from axforge.axcompiler import ir, spec
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Graph, Tensor
from axforge.axcompiler.lowering.builder import GraphBuilder
from axforge.axcompiler.onnx_graph import qdq
from axforge.axcompiler.onnx_graph.qdq import Qdq
from axforge.axcompiler.operators import find
from axforge.axcompiler.placement import decision
from axforge.axcompiler.qdq import islands as cut
from axforge.axcompiler.qdq.islands import Group
from axforge.axcompiler.qdq.partition import AipuItem, CopyItem, Partition, plan


def build(model: onnx.ModelProto) -> Graph:
    """The fused graph of a QDQ model, before any pass. Raises CompileError where a value is not a tensor."""
    known = qdq.read(model)
    planned = plan(known, decision.find(model))
    lowering = GraphBuilder(qdq=known, names=planned.names, opsets=list(model.opset_import))
    units = cut.group(planned.items)
    _declare(lowering, planned, units)
    models: dict[str, bytes] = {}
    for unit in units:
        if isinstance(unit, AipuItem):
            _lower(lowering, unit)
        elif isinstance(unit, CopyItem):
            lowering.begin((unit.target,), {})
            lowering.copy(ir.Reshape, unit.source, unit.target)
        else:
            _island(lowering, model, unit, units, models)
    return Graph(
        name=model.graph.name or "model",
        tensors=dict(lowering.tensors),
        ops=tuple(lowering.ops),
        inputs=known.view.inputs,
        outputs=known.view.outputs,
        constants=lowering.constants,
        islands=models,
    )


def _declare(lowering: GraphBuilder, planned: Partition, units: Sequence[Any]) -> None:
    """Tensors that units pass to each other, the inputs and the outputs."""
    view = lowering.qdq.view
    for (real, quant), name in planned.names.items():
        if real not in view.shapes:
            raise CompileError(f"the quantized tensor '{real}' has no fixed shape", fix="Pin the shapes of the inputs.")
        lowering.tensors[name] = Tensor(view.shapes[real], "int8", quant)
    for name in (*view.inputs, *view.outputs, *(n for unit in units for n in unit.reads)):
        if name not in lowering.tensors:
            lowering.tensors[name] = _plain(lowering.qdq, name)


def _plain(known: Qdq, name: str) -> Tensor:
    """A tensor that islands alone make and use, or a second name of a quantized output."""
    view = known.view
    if name in known.dequantized:
        return Tensor(view.shapes[name], "int8", known.dequantized[name].quant)
    if name not in view.dtypes or name not in view.sizes:
        raise CompileError(
            f"'{name}' passes between the AIPU and the CPU (or into or out of the model) and is not a tensor of known rank",
            fix="Sequences, optionals and values of unknown rank can only be used inside one part of the model that runs on the CPU.",
        )
    if view.dtypes[name] not in spec.DTYPES:
        kind = "text" if view.dtypes[name] == "str" else view.dtypes[name]
        raise CompileError(
            f"'{name}' is a tensor of {kind}, which cannot pass into or out of the AIPU or a compiled model",
            fix="Convert the model's inputs and outputs to float32.",
        )
    if len(view.sizes[name]) > spec.MAX_RANK:
        raise CompileError(
            f"'{name}' passes between the AIPU and the CPU (or into or out of the model) and has {len(view.sizes[name])} axes",
            fix=f"Such a tensor may have {spec.MAX_RANK} axes: reshape it before it gets there.",
        )
    return Tensor(view.sizes[name], view.dtypes[name])


def _lower(lowering: GraphBuilder, item: AipuItem) -> None:
    known = lowering.qdq
    view = known.view
    origin = tuple(view.nodes[i].name for i in item.nodes)
    for k in range(max(len(known.codes[real]) for _, real in item.results)):
        targets: Mapping[str, str] = {
            inner: planned
            for inner, real in item.results
            if k < len(known.codes[real])
            for planned in [lowering.names[real, known.codes[real][k].quant]]
        }
        lowering.begin(origin, targets, item.bounds)
        if item.region:
            lowering.function(tuple(view.nodes[i] for i in item.nodes), item.region.input, item.region.output)
            continue
        node = view.nodes[item.nodes[0]]
        operator = find(node.op_type, node.domain)
        assert operator is not None
        operator.lower(lowering, node)


def _island(lowering: GraphBuilder, model: onnx.ModelProto, unit: Group, units: Sequence[Any], models: dict[str, bytes]) -> None:
    view = lowering.qdq.view
    needed = {name for other in units if other is not unit for name in other.reads} | set(view.outputs)
    needed |= {name for name in unit.writes if name in lowering.tensors and lowering.tensors[name].quant}
    outputs = tuple(name for name in unit.writes if name in needed)
    if not outputs:
        return
    name = f"island{len(models)}"
    quants = {n: t.quant for n, t in lowering.tensors.items() if t.quant}
    models[name] = cut.extract(model, view, unit, name, outputs, quants)
    lowering.ops.append(
        ir.Island(
            name=name,
            inputs=unit.reads,
            outputs=outputs,
            origin=tuple(item.proto.name or item.proto.output[0] for item in unit.items),
            island=name,
            reason=cut.reason(unit.items),
        )
    )
