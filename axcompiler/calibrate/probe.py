"""The float model with probes: extremes and a fixed sample of each tensor come out instead of the tensors themselves.

    T ──► ReduceMin, ReduceMax over all axes but the first two     (the rest is a small maximum in NumPy)
    └───► Reshape [-1, row] ──► Slice by a step                    some thousand values, the same rows in every run

    T = f(S), f element-wise ──► f of what the probe of S gives      (S is probed already, and T need not be touched)

Whole rows, because memory is read by cache lines; over two axes, because that is onnxruntime's fast path.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from axforge.axcompiler.onnx_graph.views import names_read

#: values of each tensor that enter its histogram, per sample (a tensor with fewer enters whole)
MAX_VALUES = 1 << 13
#: what a probe may give of a tensor
OUTPUTS = ("lo", "hi", "values")


@dataclass(frozen=True)
class Probe:
    """One tensor, and the names of the outputs that describe it. Sampled are rows 0, stride, 2 * stride, ... of `row` values each.

    lo, hi, values: '' where no statistic needs that output.
    """

    tensor: str
    lo: str
    hi: str
    values: str
    row: int
    stride: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs there are."""
        return tuple(name for name in (self.lo, self.hi, self.values) if name)


def stride_for(rows: int, row: int) -> int:
    """A step through the rows that leaves about MAX_VALUES values and, being prime to their number, favours no column or channel."""
    step = max(1, -(-rows * row // MAX_VALUES))
    while step < rows and math.gcd(step, rows) > 1:
        step += 1
    return step


def with_probes(
    model: onnx.ModelProto,
    wanted: Mapping[str, frozenset[str]],
    shapes: Mapping[str, tuple[int, ...]],
    derived: Mapping[str, tuple[str, Sequence[onnx.NodeProto]]],
    whole: Collection[str] = (),
) -> tuple[onnx.ModelProto, list[Probe]]:
    """A copy of the model whose outputs are probes, with what leads to them alone, and the probes.

    wanted: by tensor, which outputs of its probe: 'lo', 'hi', 'values'. derived: of those, element-wise functions of another tensor
    that is wanted with all three and is not derived itself, with the nodes that compute them. whole: those whose every value is sampled.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph = probed.graph
    del graph.output[:]
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for name, value in (("axforge_zero", 0), ("axforge_end", 2**62)):
        graph.initializer.append(numpy_helper.from_array(np.asarray([value], np.int64), name))
    probes = {
        name: _attach(graph, i, name, shapes[name], opset, wanted[name], name in whole)
        for i, name in enumerate(wanted)
        if name not in derived
    }
    for name, (source, nodes) in derived.items():
        probes[name] = _derive(graph, probes[source], name, nodes)
    _prune(graph)
    return probed, list(probes.values())


def _prune(graph: onnx.GraphProto) -> None:
    """Take out the nodes and initializers that no output needs."""
    needed = {o.name for o in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(names_read(node))
    tensors = [t for t in graph.initializer if t.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


def _derive(graph: onnx.GraphProto, source: Probe, name: str, nodes: Sequence[onnx.NodeProto]) -> Probe:
    """The probe of `name`, which `nodes` make of the tensor that `source` probes."""
    results = []
    for output in (source.lo, source.hi, source.values):
        renamed = {source.tensor: output} | {o: f"{output}_{o}" for node in nodes for o in node.output if o}
        for node in nodes:
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.name = ""
            copy.input[:] = [renamed.get(i, i) for i in node.input]
            copy.output[:] = [renamed.get(o, o) for o in node.output]
            graph.node.append(copy)
        results.append(renamed[name])
        graph.output.append(helper.make_tensor_value_info(results[-1], TensorProto.FLOAT, None))
    lo, hi, values = results
    return Probe(name, lo, hi, values, source.row, source.stride)


def _attach(graph: onnx.GraphProto, i: int, name: str, shape: tuple[int, ...], opset: int, wanted: frozenset[str], whole: bool) -> Probe:
    """Add the nodes that compute the wanted outputs of one tensor."""
    p = f"axforge_probe_{i}"
    row = shape[-1] if len(shape) > 2 else 1
    lo, hi, values = (f"{p}_{output}" if output in wanted else "" for output in OUTPUTS)
    probe = Probe(name, lo, hi, values, row, 1 if whole else stride_for(math.prod(shape) // row, row))
    for op, result in (("ReduceMin", lo), ("ReduceMax", hi)):
        if result:
            graph.node.extend(_reduction(graph, op, name, result, len(shape), opset))
    if values:
        for constant, value in ((f"{p}_rows", [-1, row]), (f"{p}_step", [probe.stride])):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), constant))
        graph.node.append(helper.make_node("Reshape", [name, f"{p}_rows"], [f"{p}_row"]))
        graph.node.append(helper.make_node("Slice", [f"{p}_row", "axforge_zero", "axforge_end", "axforge_zero", f"{p}_step"], [values]))
    for output in probe.outputs:
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    return probe


def _reduction(graph: onnx.GraphProto, op: str, name: str, result: str, rank: int, opset: int) -> list[onnx.NodeProto]:
    """Nodes that make `result` of tensor `name`: ReduceMin or ReduceMax over all axes but the first two, or over all of two or fewer."""
    axes = list(range(2, rank)) or list(range(rank))
    if not axes:
        return [helper.make_node("Identity", [name], [result])]
    if opset < 18:
        return [helper.make_node(op, [name], [result], axes=axes, keepdims=0)]
    graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{result}_axes"))
    return [helper.make_node(op, [name, f"{result}_axes"], [result], keepdims=0)]
