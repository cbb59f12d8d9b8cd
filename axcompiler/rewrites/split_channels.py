"""Splits channels with dissimilar ranges before a depthwise convolution into groups that have a scale each.

    Conv ─► f ─► depthwise Conv ─► g ─► Conv      becomes      ┌ Conv ─► f ─► depthwise Conv ─► g ┐
                                                               ┤                                  ├ Concat ─► Conv
                                                               └ Conv ─► f ─► depthwise Conv ─► g ┘

One scale serves a whole tensor, so a channel that stays below 1/255 of the widest one is lost; a depthwise convolution, which has a
weight of its own for each channel, then blows the loss up. Channels do not meet between the two convolutions, so they may be
split there, and in float the result is the same number. The next layer's weights take up the new order of channels;
where another operator reads the result, a Gather brings the old order back.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.onnx_graph.views import names_read
from axforge.axcompiler.operators import channel_groups
from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.placement.units import region_bounds
from axforge.axcompiler.rewrites.base import RewritingAlgorithm, rewriting_algorithm
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import F64, StatisticPoint
from axforge.axcompiler.statistics.channels import ChannelWidths

#: channels of each group, by the tensor that the depthwise convolution reads
Splits = Mapping[str, Sequence[Sequence[int]]]

#: most groups a tensor is split into
MAX_GROUPS = 4
#: groups start at multiples of this many channels, in the order of their ranges
STEP = 4
#: noise that the operand's rounding may bring into the result, relative to the result's own rounding, before a tensor is split
TOLERATED = 4.0
#: another group must take away this share of the noise
WORTH = 0.5


@dataclass(frozen=True)
class Chain:
    """Conv, a region or nothing, a depthwise Conv, a region or nothing: indices of nodes, and the tensors between.

    operand: what the depthwise convolution reads. result: what comes out at the end.
    """

    conv: int
    first: tuple[int, ...]
    depthwise: int
    second: tuple[int, ...]
    operand: str
    result: str


@rewriting_algorithm
@dataclass(frozen=True)
class SplitChannels(RewritingAlgorithm):
    """Splits channels with dissimilar ranges before a depthwise convolution into groups that have a scale each."""

    name: ClassVar[str] = "split_channels"
    on: ClassVar[bool] = True

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """How wide each channel is, of what each depthwise convolution reads and of what comes out at the end."""
        return [StatisticPoint(name, ChannelWidths()) for chain in chains(plan) for name in (chain.operand, chain.result)]

    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """Groups of channels for the tensors that gain by being split."""
        widths = statistics.channels.get(ChannelWidths.name, {})
        groups = {c.operand: decide(plan, c, widths[c.operand].astype(np.float64), float(widths[c.result].max())) for c in chains(plan)}
        return {operand: parts for operand, parts in groups.items() if len(parts) > 1}

    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The model with its channels split, and the nodes that replace each node of the chains."""
        return apply(model, {tensor: [[int(c) for c in group] for group in groups] for tensor, groups in decision.items()})


def chains(plan: Plan) -> list[Chain]:
    """The places of a model where channels can be split, in its order."""
    found = (_chain(plan, k) for k in sorted(plan.aipu))
    return [chain for chain in found if chain is not None]


def _chain(plan: Plan, k: int) -> Chain | None:
    view, unit = plan.view, plan.parts[k]
    node = view.nodes[unit.nodes[0]]
    groups = channel_groups(node)
    if unit.region or groups is None:
        return None
    operand = node.inputs[0]
    channels = view.shapes[operand][1]
    if not 1 < channels == groups == view.shapes[node.inputs[1]][0]:
        return None
    made = _alone(plan, operand, unit.nodes)
    first: tuple[int, ...] = ()
    if made in plan.aipu and plan.parts[made].region:
        clipped = region_bounds(view, plan.parts[made])
        if clipped is not None and clipped[1] < math.inf:
            return None  # ReLU6 and its like: what one scale costs is bounded, and splitting brought networks that have it nothing
        first = plan.parts[made].nodes
        made = _alone(plan, plan.parts[made].inputs[0], first)
    maker = view.nodes[plan.parts[made].nodes[0]] if made in plan.aipu else None
    if maker is None or channel_groups(maker) != 1:
        return None
    second, result = _after(plan, node.outputs[0])
    return Chain(plan.parts[made].nodes[0], first, unit.nodes[0], second, operand, result)


def _alone(plan: Plan, name: str, readers: Sequence[int]) -> int:
    """The unit that makes a tensor which nobody but the nodes `readers` reads; -1 if there is none."""
    alone = set(plan.view.users[name]) <= set(readers) and name not in plan.view.outputs
    return plan.maker.get(name, -1) if alone else -1


def _after(plan: Plan, name: str) -> tuple[tuple[int, ...], str]:
    """The region behind the depthwise convolution, if it is all that reads `name`, and its result."""
    for k in plan.readers.get(name, ()):
        if plan.parts[k].region and k in plan.aipu and _alone(plan, name, plan.parts[k].nodes) >= 0:
            return plan.parts[k].nodes, plan.parts[k].outputs[0]
    return (), name


def decide(plan: Plan, chain: Chain, widths: F64, result_width: float) -> tuple[tuple[int, ...], ...]:
    """Groups of channels, each ascending; a single one where splitting gains too little.

    widths: range (hi - lo, 0 among them) of each channel of the operand; result_width: that of the whole result.
    The noise of a channel is that of rounding its operand, times the norm of its weights.
    """
    weight = np.asarray(plan.view.constants[plan.view.nodes[chain.depthwise].inputs[1]], np.float64)
    gain = (weight.reshape(len(weight), -1) ** 2).sum(axis=1)
    order = np.argsort(widths, kind="stable")
    everything = (tuple(range(len(order))),)
    cost = _costs(widths[order], gain[order])
    allowed = TOLERATED * len(order) * max(result_width, 1e-30) ** 2
    best, cuts = cost[0, -1], [0, cost.shape[1] - 1]
    for groups in range(2, MAX_GROUPS + 1):
        if best <= allowed:
            break
        noise, ends = _cheapest(cost, groups)
        if noise > (1 - WORTH) * best:
            break
        best, cuts = noise, ends
    edges = [*range(0, len(order), STEP), len(order)]
    parts = [order[edges[a] : edges[b]] for a, b in itertools.pairwise(cuts)]
    return tuple(tuple(sorted(int(c) for c in part)) for part in parts) if len(parts) > 1 else everything


def _costs(widths: F64, gain: F64) -> F64:
    """cost[a, b]: noise of one group of the sorted channels between edges a and b (in units of STEP); infinite for b <= a."""
    edges = [*range(0, len(widths), STEP), len(widths)]
    total = np.concatenate([[0.0], np.cumsum(gain)])[edges]
    widest = np.asarray([0.0, *(widths[e - 1] for e in edges[1:])])
    cost = widest[None, :] ** 2 * (total[None, :] - total[:, None])
    cost[np.tril_indices(len(edges))] = np.inf
    return cost


def _cheapest(cost: F64, groups: int) -> tuple[float, list[int]]:
    """Least noise with that many groups, and the edges between them."""
    best, came = cost[0], []
    for _ in range(groups - 1):
        through = best[:, None] + cost
        came.append(through.argmin(axis=0))
        best = through.min(axis=0)
    ends = [len(best) - 1]
    for step in reversed(came):
        ends.append(int(step[ends[-1]]))
    return float(best[-1]), [0, *reversed(ends)]


def apply(model: onnx.ModelProto, splits: Splits) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
    """The model with its channels split, which computes the same, and the names of the nodes that replace each one of old.

    Raises KeyError if `splits` names a tensor that no chain of the model has.
    """
    if not splits:
        return model, {}
    plan = make_plan(model)
    found = {chain.operand: chain for chain in chains(plan)}
    writer = _Writer(model, plan)
    for operand in sorted(splits, key=lambda name: found[name].depthwise):
        writer.split(found[operand], splits[operand])
    return writer.finish(), writer.parts


class _Writer:
    """The model being rewritten: each node gives way to a list of nodes."""

    def __init__(self, model: onnx.ModelProto, plan: Plan) -> None:
        self._model, self._view = model, plan.view
        self._nodes = [[NodeProto.FromString(p.SerializeToString())] for p in plan.view.protos]
        self._values = {t.name: t for t in model.graph.initializer}
        tensors = {*self._values, *(o for n in model.graph.node for o in n.output), *(i.name for i in model.graph.input)}
        self._names = Names({*tensors, *(n.name for n in plan.view.nodes)})
        self.parts: dict[str, tuple[str, ...]] = {}

    def split(self, chain: Chain, groups: Sequence[Sequence[int]]) -> None:
        """Split one chain."""
        inside = (chain.conv, *chain.first, chain.depthwise, *chain.second)
        olds = {i: self._nodes[i][0] for i in inside}
        between = {o for i in inside for o in self._view.nodes[i].outputs}
        names = [{name: self._names.fresh(f"{name}_channels{g}") for name in sorted(between)} for g in range(len(groups))]
        for i in inside:
            self._nodes[i] = [self._part(olds[i], chain, i, names[g], g, groups[g]) for g in range(len(groups))]
            self.parts[self._view.nodes[i].name] = tuple(n.name for n in self._nodes[i])
        joined = [renamed[chain.result] for renamed in names]
        self._nodes[inside[-1]].extend(self._join(chain.result, joined, [c for group in groups for c in group]))

    def finish(self) -> onnx.ModelProto:
        """The rewritten model."""
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        constants = [n for n in self._model.graph.node if n.op_type == "Constant" and n.output[0] in self._view.constants]
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend([*constants, *(n for row in self._nodes for n in row)])
        read = {name for n in result.graph.node for name in names_read(n)}
        result.graph.initializer.extend(tensor for name, tensor in self._values.items() if name in read)
        return result

    def _constant(self, wanted: str, value: NDArray[np.generic]) -> str:
        name = self._names.fresh(wanted)
        self._values[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _value(self, name: str) -> NDArray[np.generic]:
        return numpy_helper.to_array(self._values[name]) if name in self._values else self._view.constants[name]

    def _part(self, old: NodeProto, chain: Chain, i: int, names: Mapping[str, str], g: int, channels: Sequence[int]) -> NodeProto:
        """What node i does for the channels of group g."""
        new = NodeProto.FromString(old.SerializeToString())
        new.name = self._names.fresh(f"{self._view.nodes[i].name}_channels{g}")
        new.input[:] = [names.get(name, name) for name in old.input]
        new.output[:] = [names.get(name, name) for name in old.output]
        if i in (chain.conv, chain.depthwise):
            for at in range(1, len(old.input)):
                if old.input[at]:
                    new.input[at] = self._constant(f"{old.input[at]}_channels{g}", self._value(old.input[at])[np.asarray(channels)])
        if i == chain.depthwise:
            kept = [a for a in new.attribute if a.name != "group"]
            del new.attribute[:]
            new.attribute.extend([*kept, helper.make_attribute("group", len(channels))])
        return new

    def _join(self, result: str, parts: Sequence[str], order: Sequence[int]) -> list[NodeProto]:
        """The groups side by side under the name `result`: in the order of groups if convolutions alone read it, else as it was."""
        name = self._names.fresh(f"{result}_joined")
        readers = self._view.users.get(result, ())
        if result not in self._view.outputs and all(self._takes_order(i, result) for i in readers):
            for i in readers:
                for reader in self._nodes[i]:
                    weight = self._value(reader.input[1])
                    reader.input[1] = self._constant(f"{reader.input[1]}_reordered", weight[:, np.asarray(order)])
            return [helper.make_node("Concat", list(parts), [result], name, axis=1)]
        index = self._constant(f"{result}_order", np.argsort(np.asarray(order)).astype(np.int64))
        gather = helper.make_node("Gather", [name, index], [result], self._names.fresh(f"{result}_ordered"), axis=1)
        return [helper.make_node("Concat", list(parts), [name], self._names.fresh(f"{result}_join"), axis=1), gather]

    def _takes_order(self, i: int, name: str) -> bool:
        node = self._view.nodes[i]
        return channel_groups(node) == 1 and node.inputs[0] == name and node.constant(1) is not None
