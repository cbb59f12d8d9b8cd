"""The float model with probes: extremes and a fixed sample of each tensor come out instead of the tensors themselves.

T ──► ReduceMin, ReduceMax                 exact extremes
└───► Reshape [-1] ──► Slice by a step     at most 2**15 values, the same positions in every run
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: values of each tensor that enter its histogram, per sample
MAX_VALUES = 1 << 15


@dataclass(frozen=True)
class Probe:
    """One tensor, the names of the outputs that describe it, and the positions of its sampled values (a stride)."""

    tensor: str
    lo: str
    hi: str
    values: str
    stride: int


def stride_for(size: int) -> int:
    """A step that leaves at most MAX_VALUES of `size` values and, being prime to its width, visits all rows and columns alike."""
    step = -(-size // MAX_VALUES)
    while math.gcd(step, size) > 1 and step < size:
        step += 1
    return step


def with_probes(model: onnx.ModelProto, tensors: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> tuple[onnx.ModelProto, list[Probe]]:
    """A copy of the model whose outputs are probes of `tensors`, and the probes."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph = probed.graph
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.asarray([-1], np.int64), "axforge_flat"))
    graph.initializer.append(numpy_helper.from_array(np.asarray([0], np.int64), "axforge_zero"))
    graph.initializer.append(numpy_helper.from_array(np.asarray([2**62], np.int64), "axforge_end"))
    probes = [_attach(graph, i, name, shapes[name]) for i, name in enumerate(tensors)]
    return probed, probes


def _attach(graph: onnx.GraphProto, i: int, name: str, shape: tuple[int, ...]) -> Probe:
    p = f"axforge_probe_{i}"
    probe = Probe(name, f"{p}_min", f"{p}_max", f"{p}_values", stride_for(math.prod(shape)))
    graph.initializer.append(numpy_helper.from_array(np.asarray([probe.stride], np.int64), f"{p}_step"))
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [name], [probe.lo], keepdims=0),
            helper.make_node("ReduceMax", [name], [probe.hi], keepdims=0),
            helper.make_node("Reshape", [name, "axforge_flat"], [f"{p}_row"]),
            helper.make_node("Slice", [f"{p}_row", "axforge_zero", "axforge_end", "axforge_zero", f"{p}_step"], [probe.values]),
        ]
    )
    for output in (probe.lo, probe.hi, probe.values):
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    return probe
