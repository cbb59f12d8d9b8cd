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
from numpy.typing import NDArray
from onnx import numpy_helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.views import NodeView, names_read
from axforge.axcompiler.operators import channel_groups
from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.rewrites.base import RewritingAlgorithm, rewriting_algorithm
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import F32, F64, Collector, Observation, Sampling, StatisticPoint
from axforge.axcompiler.statistics.channels import ChannelExtremes

#: a channel is made at most so much smaller than the widest one, because four samples do not show how large it gets in others
HEADROOM = 4.0
#: shares of the difference between activations that the weights are tried to take over
SHARES = (0.25, 0.5, 0.75, 1.0)
#: noise that must be left at most, relative to that without a change
WORTH = 0.8
#: mean square of a channel relative to the square of its largest value, as it is typical behind a Relu
MEAN_SQUARE = 1 / 32


@rewriting_algorithm
@dataclass(frozen=True)
class Equalize(RewritingAlgorithm):
    """limit: largest factor between channels."""

    name: ClassVar[str] = "equalize"
    limit: float = 64.0

    def __post_init__(self) -> None:
        if not self.limit >= 1:
            raise ValueError(f"limit is {self.limit} and must be at least 1")

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """How large each channel between two convolutions gets."""
        return [StatisticPoint(pair.between, ChannelMagnitudes()) for pair in pairs(plan)]

    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """Exponents of the factors by the tensor between two convolutions, where that takes away noise."""
        magnitudes = statistics.channels.get(ChannelMagnitudes.name, {})
        found = {pair.between: self._exponents(plan, pair, magnitudes[pair.between].astype(np.float64)) for pair in pairs(plan)}
        return {between: [exponents] for between, exponents in found.items() if any(exponents)}

    def _exponents(self, plan: Plan, pair: "Pair", magnitude: F64) -> list[int]:
        """Exponents of the factors, one for each channel, that leave the least noise; zeros if none is much better than that."""
        second = plan.view.nodes[pair.second]
        weight = np.abs(plan.view.constants[second.inputs[1]].astype(np.float64))
        by_channel = weight.reshape(*weight.shape[:2], -1)
        by_channel = by_channel.transpose(1, 0, 2) if _depthwise(second) else by_channel  # [M, C, window]; M is 1 for a depthwise one
        read = by_channel.max(axis=(0, 2))
        magnitude = np.minimum(magnitude * HEADROOM, magnitude.max())
        alive = (magnitude > 0) & (read > 0)
        best = np.zeros(len(magnitude), np.int64)
        if not alive.any():
            return [0] * len(magnitude)
        allowed = WORTH * noise_of(by_channel, magnitude, best, _depthwise(second))
        large, wide = (np.log2(np.where(alive, v, 1) / v[alive].max()) for v in (magnitude, read))
        for share in SHARES:
            wanted = np.ceil(share * large - (1 - share) * (0 if _depthwise(second) else 1) * wide)
            exponents = np.where(alive, np.clip(wanted, -math.log2(self.limit), math.log2(self.limit)), 0).astype(np.int64)
            noise = noise_of(by_channel, magnitude, exponents, _depthwise(second))
            if noise < allowed:
                allowed, best = noise, exponents
        return [int(e) for e in best]

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
        if not _convolution(plan, k) or not (_depthwise(node) or channel_groups(node) == 1):
            continue
        before = _maker(plan, node.inputs[0], plan.parts[k].nodes)
        if before in plan.aipu and plan.parts[before].region and region_bounds(plan.view, plan.parts[before]) == (0.0, math.inf):
            before = _maker(plan, plan.parts[before].inputs[0], plan.parts[before].nodes)
        if before in plan.aipu and _convolution(plan, before):
            found.append(Pair(plan.parts[before].nodes[0], plan.parts[k].nodes[0], node.inputs[0]))
    return found


def _convolution(plan: Plan, k: int) -> bool:
    return plan.parts[k].region is None and channel_groups(plan.view.nodes[plan.parts[k].nodes[0]]) is not None


def _depthwise(node: NodeView) -> bool:
    weight = node.shape(1)
    return weight is not None and 1 < weight[0] == channel_groups(node) and weight[1] == 1


def _maker(plan: Plan, name: str, readers: Sequence[int]) -> int:
    """The unit that makes a tensor which only the nodes `readers` read; -1 if there is none."""
    alone = set(plan.view.users[name]) <= set(readers) and name not in plan.view.outputs
    return plan.maker.get(name, -1) if alone else -1


def noise_of(weight: F64, magnitude: F64, exponents: NDArray[np.int64], depthwise: bool) -> float:
    """Mean square of what rounding the operand, and rounding the weight [M, C, window], adds to the second layer's results, summed up."""
    factor = np.ldexp(1.0, exponents)
    weight, magnitude = weight * factor[:, None], magnitude / factor
    operand = (magnitude.max() / 255) ** 2 * (weight**2).sum()
    if depthwise:
        return float(operand)  # its weights have a scale for each channel: their noise does not change
    rows = (weight.max(axis=(1, 2)) / 127) ** 2
    return float(operand + rows.sum() * weight.shape[2] * MEAN_SQUARE * (magnitude**2).sum())


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
class ChannelMagnitudes(ChannelExtremes):
    """Largest absolute value of each channel (axis 1): [C]."""

    name: ClassVar[str] = "magnitudes"

    def collector(self, sampling: Sampling) -> MagnitudesCollector:
        """Zeros."""
        return MagnitudesCollector(sampling.shape[1])
