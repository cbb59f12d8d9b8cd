"""Cross-layer equalization: lets the channels between two convolutions fill the range that they share.

    Conv W1, b1 ─► Relu ─► Conv W2      becomes      Conv W1 / s, b1 / s ─► Relu ─► Conv W2 * s        (s: one factor for each channel)

The scale of an activation serves all its channels, so a channel that stays far below the widest one is left with few codes. A Relu
commutes with a positive factor, so a channel may be made larger before it if the next layer's weights take the factor back
(Nagel et al., 2019, section 4.1; Xiao et al., 2023, for measured activations). The factors are powers of two: no number of the float
model is rounded differently, and its results stay what they were, bit for bit.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.views import NodeView, names_read
from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.quantize.algorithm import RewritingAlgorithm, algorithm
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import F32, F64, Collector, Observation, Sampling, Statistic, StatisticPoint


@algorithm
@dataclass(frozen=True)
class Equalize(RewritingAlgorithm):
    """limit: largest factor. alpha: the share of the difference between activations that weights take over, 0 to 1.

    A depthwise convolution has a scale for each channel's weights, so it takes over everything.
    """

    name: ClassVar[str] = "equalize"
    limit: float = 64.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not (self.limit >= 1 and 0 <= self.alpha <= 1):
            raise ValueError(f"limit is {self.limit} and alpha {self.alpha}; they must be at least 1, and 0 to 1")

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """How large each channel between two convolutions gets."""
        return [StatisticPoint(pair.between, ChannelMagnitudes()) for pair in pairs(plan)]

    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """Exponents of the factors by the tensor between two convolutions, where some factor is not 1."""
        magnitudes = statistics.channels.get(ChannelMagnitudes.name, {})
        found = {pair.between: self._exponents(plan, pair, magnitudes[pair.between].astype(np.float64)) for pair in pairs(plan)}
        return {between: [exponents] for between, exponents in found.items() if any(exponents)}

    def _exponents(self, plan: Plan, pair: "Pair", magnitude: F64) -> list[int]:
        """Exponents of the factors, one for each channel; 0 for a channel that is never anything but 0, or that nothing reads."""
        second = plan.view.nodes[pair.second]
        weight = np.abs(plan.view.constants[second.inputs[1]].astype(np.float64))
        read = weight.max(axis=(1, *range(2, weight.ndim))) if _depthwise(second) else weight.max(axis=(0, *range(2, weight.ndim)))
        alpha = 1.0 if _depthwise(second) else self.alpha
        alive = (magnitude > 0) & (read > 0)
        exponent = np.zeros(len(magnitude))
        if alive.any():
            large, wide = (np.log2(v[alive] / v[alive].max()) for v in (magnitude, read))
            exponent[alive] = np.clip(np.rint(alpha * large - (1 - alpha) * wide), -math.log2(self.limit), math.log2(self.limit))
        return [int(e) for e in exponent]

    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The model with scaled weights; its nodes keep their names."""
        plan = make_plan(model)
        found = {pair.between: pair for pair in pairs(plan)}
        values: dict[tuple[int, int], F64] = {}
        for between, (exponents,) in decision.items():
            _scale(plan, found[between], np.ldexp(1.0, np.asarray(exponents)), values)
        return _with_values(model, plan, values), {}


@dataclass(frozen=True)
class Pair:
    """Two convolutions, as indices of nodes, and the tensor that the second one reads, behind a Relu or not."""

    first: int
    second: int
    between: str


def pairs(plan: Plan) -> list[Pair]:
    """The pairs of convolutions of which the second alone reads what the first gives, directly or through a Relu; in the model's order."""
    found = []
    for k in sorted(plan.aipu):
        node = plan.view.nodes[plan.parts[k].nodes[0]]
        if not _convolution(plan, k) or not (_depthwise(node) or int(node.attributes.get("group", 1)) == 1):
            continue
        before = _maker(plan, node.inputs[0], plan.parts[k].nodes)
        if before in plan.aipu and plan.parts[before].region and region_bounds(plan.view, plan.parts[before]) == (0.0, math.inf):
            before = _maker(plan, plan.parts[before].inputs[0], plan.parts[before].nodes)
        if before in plan.aipu and _convolution(plan, before):
            found.append(Pair(plan.parts[before].nodes[0], plan.parts[k].nodes[0], node.inputs[0]))
    return found


def _convolution(plan: Plan, k: int) -> bool:
    return plan.parts[k].region is None and plan.view.nodes[plan.parts[k].nodes[0]].op_type == "Conv"


def _depthwise(node: NodeView) -> bool:
    weight = node.shape(1)
    return weight is not None and 1 < weight[0] == int(node.attributes.get("group", 1)) and weight[1] == 1


def _maker(plan: Plan, name: str, readers: Sequence[int]) -> int:
    """The unit that makes a tensor which only the nodes `readers` read; -1 if there is none."""
    alone = set(plan.view.users[name]) <= set(readers) and name not in plan.view.outputs
    return plan.maker.get(name, -1) if alone else -1


def _scale(plan: Plan, pair: Pair, factor: F64, values: dict[tuple[int, int], F64]) -> None:
    """Divide what the first layer gives by `factor` [C], and multiply what the second one reads; in `values`, by node and input."""

    def value(node: int, i: int) -> F64:
        return values.get((node, i), plan.view.constants[plan.view.nodes[node].inputs[i]].astype(np.float64))

    first, second = plan.view.nodes[pair.first], plan.view.nodes[pair.second]
    for i in range(1, len(first.inputs)):
        if first.inputs[i]:
            old = value(pair.first, i)
            values[pair.first, i] = old / factor.reshape(-1, *(1 for _ in old.shape[1:]))
    old = value(pair.second, 1)
    shape = (-1, *(1 for _ in old.shape[1:])) if _depthwise(second) else (1, -1, *(1 for _ in old.shape[2:]))
    values[pair.second, 1] = old * factor.reshape(shape)


def _with_values(model: onnx.ModelProto, plan: Plan, values: dict[tuple[int, int], F64]) -> onnx.ModelProto:
    """A copy of the model in which inputs of nodes are new constants."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names = Names({*(o for n in graph.node for o in n.output), *(t.name for t in graph.initializer), *(i.name for i in graph.input)})
    position = {n.output[0]: n for n in graph.node}
    for (node, i), value in sorted(values.items()):
        proto = position[plan.view.nodes[node].outputs[0]]
        name = names.fresh(f"{proto.input[i]}_equalized")
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        proto.input[i] = name
    read = {name for n in graph.node for name in names_read(n)}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


class MagnitudesCollector(Collector):
    """Largest absolute value of each channel."""

    def __init__(self, channels: int) -> None:
        self._largest: F32 = np.zeros(channels, np.float32)

    def add(self, seen: Observation) -> None:
        """Take in one sample; values that are not finite are left out."""
        for extremes in (seen.lows, seen.highs):
            assert extremes is not None
            self._largest = np.maximum(self._largest, np.abs(np.nan_to_num(extremes, nan=0.0, posinf=0.0, neginf=0.0)).max(axis=0))

    def result(self) -> F32:
        """[C]"""
        return self._largest


@dataclass(frozen=True)
class ChannelMagnitudes(Statistic):
    """Largest absolute value of each channel (axis 1): [C]."""

    name: ClassVar[str] = "magnitudes"

    @property
    def lowest(self) -> bool:
        """The smallest values are needed."""
        return True

    @property
    def highest(self) -> bool:
        """The largest values are needed."""
        return True

    def collector(self, sampling: Sampling) -> MagnitudesCollector:
        """Zeros."""
        return MagnitudesCollector(sampling.shape[1])
