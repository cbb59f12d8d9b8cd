"""Decides where each node runs: on the AIPU, on the CPU in the middle, or on the host before and after the network.

The network proper is what is between the first and the last layer (a product with constant weights). Before it stands
normalisation, behind it decoding: both are a few float operations on values whose precision matters (box and score must not
share one int8 scale), so the host does them in float32. Cheap steps that int8 does exactly, or nearly, stay with the network.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.views import ModelView
from axforge.axcompiler.operators.base import Part, find_elementwise, nothing_constant
from axforge.axcompiler.placement.decision import Decision
from axforge.axcompiler.placement.recurrent import carries_state
from axforge.axcompiler.placement.units import Unit, copies, is_layer, region_bounds, units
from axforge.axcompiler.stages import CheckConfig


@dataclass(frozen=True)
class Placement:
    """Where one node runs, and why, in words."""

    node: str
    op_type: str
    place: str
    reason: str


def place(view: ModelView, config: CheckConfig, where: str) -> list[Placement]:
    """A placement for every node, in order. Raises CompileError if `config.end_nodes` names nothing in the model."""
    if config.float_state and (holder := carries_state(view)):
        reason = f"'{holder}' carries a state from call to call, in which int8 errors add up (compile.check.float_state: false allows int8)"
        return [Placement(node.name, node.op_type, "cpu", reason) for node in view.nodes]
    parts = units(view)
    ends = _ends(view, config, where)
    after, before = _after_layers(view, parts), _before_layers(view, parts)
    has_layers = any(is_layer(view, u) for u in parts)
    cut = _behind(parts, ends)
    head, tail, verdict = [], [], {}
    for k, unit in enumerate(parts):
        if k in cut:
            verdict[k] = ("postprocess", "it comes after compile.check.end_nodes")
        elif unit.refusal is not None and not (has_layers and not (after[k] and before[k])):
            verdict[k] = ("cpu", unit.refusal)
        elif has_layers and not before[k] and not is_layer(view, unit) and config.cut_tail and not ends:
            tail.append(k)
        elif has_layers and before[k] and not after[k] and not is_layer(view, unit) and config.cut_head:
            head.append(k)
        else:
            verdict[k] = ("cpu", unit.refusal) if unit.refusal is not None else ("aipu", _why_aipu(view, unit))
    verdict |= _tail(view, parts, tail, verdict)
    verdict |= _head(view, parts, head, verdict)
    return _by_node(view, parts, verdict)


def _ends(view: ModelView, config: CheckConfig, where: str) -> set[str]:
    by_node = {node.name: node.outputs for node in view.nodes}
    ends: set[str] = set()
    for name in config.end_nodes:
        if name not in view.makers and name not in by_node:
            raise CompileError(
                f"compile.check.end_nodes names '{name}', which is neither a tensor nor a node of the cleaned model",
                where=where,
                fix="support.json of the check stage lists the nodes.",
            )
        ends.update((name,) if name in view.makers else by_node[name])
    return ends


def _behind(parts: list[Unit], ends: Collection[str]) -> set[int]:
    """Units that read, directly or not, one of the tensors `ends`."""
    reached, found = set(ends), set()
    for k, unit in enumerate(parts):
        if reached.intersection(unit.inputs):
            found.add(k)
            reached.update(unit.outputs)
    return found


def _after_layers(view: ModelView, parts: list[Unit]) -> list[bool]:
    """For each unit, whether a layer comes before it."""
    reached: set[str] = set()
    result = []
    for unit in parts:
        result.append(bool(reached.intersection(unit.inputs)))
        if result[-1] or is_layer(view, unit):
            reached.update(unit.outputs)
    return result


def _before_layers(view: ModelView, parts: list[Unit]) -> list[bool]:
    """For each unit, whether a layer comes after it."""
    reached: set[str] = set()
    result = []
    for unit in reversed(parts):
        result.append(bool(reached.intersection(unit.outputs)))
        if result[-1] or is_layer(view, unit):
            reached.update(unit.inputs)
    return result[::-1]


Verdict = dict[int, tuple[str, str]]


def _tail(view: ModelView, parts: list[Unit], tail: list[int], verdict: Verdict) -> Verdict:
    """After the last layer: what continues it cheaply in int8 stays, unless the host needs its result anyway and it only copies."""
    on_aipu = {*view.inputs, *(o for k, (p, _) in verdict.items() if p == "aipu" for o in parts[k].outputs)}
    out: Verdict = {}
    for k in tail:
        unit = parts[k]
        if unit.refusal is None and _continues(view, unit) and on_aipu.issuperset(unit.inputs):
            out[k] = ("aipu", "it continues the last layer in int8")
            on_aipu.update(unit.outputs)
        else:
            out[k] = ("postprocess", unit.refusal or "it decodes results, which the host does in float32")
    host_reads = {i for k, (p, _) in (verdict | out).items() if p == "postprocess" for i in parts[k].inputs}
    for k in reversed(tail):
        unit = parts[k]
        if out[k][0] == "aipu" and copies(unit) and host_reads.intersection(unit.outputs):
            out[k] = ("postprocess", "it only rearranges what the host decodes")
            host_reads.update(unit.inputs)
    return out


def _continues(view: ModelView, unit: Unit) -> bool:
    """Whether int8 does the unit with little loss: clipping, activations, pooling, resizing, rearranging, a sum of two branches."""
    nodes = [view.nodes[i] for i in unit.nodes]
    if unit.region is None:
        return unit.operator is not None and unit.operator.continues(nodes[0])
    if region_bounds(view, unit) is not None:
        return True
    parts = {node.op_type: known.part for node in nodes if (known := find_elementwise(node.op_type))}
    gated = len(parts) == 2 and set(parts.values()) == {Part.GATE, Part.PRODUCT} and all(map(nothing_constant, nodes))
    return gated or set(parts.values()) == {Part.ACTIVATION}


def _head(view: ModelView, parts: list[Unit], head: list[int], verdict: Verdict) -> Verdict:
    """Before the first layer: rearranging whose result only the AIPU reads stays; all else is pre-processing."""
    host_reads = {i for k, (p, _) in verdict.items() if p != "aipu" for i in parts[k].inputs}
    out: Verdict = {}
    for k in reversed(head):
        unit = parts[k]
        kept = unit.refusal is None and unit.operator is not None and unit.operator.prepares(view.nodes[unit.nodes[0]])
        if kept and not host_reads.intersection(unit.outputs) and not set(unit.outputs) & set(view.outputs):
            out[k] = ("aipu", "it rearranges the input for the first layer")
        else:
            out[k] = ("preprocess", unit.refusal or "it prepares the input, which the host does in float32")
            host_reads.update(unit.inputs)
    return out


def _why_aipu(view: ModelView, unit: Unit) -> str:
    if unit.region is None:
        return "the AIPU has this operator"
    if region_bounds(view, unit) is not None:
        return "it clips, which the AIPU does with the operator before"
    return "it is part of a function of one tensor, which the AIPU looks up in a table"


def _by_node(view: ModelView, parts: list[Unit], verdict: Verdict) -> list[Placement]:
    by_index = {i: verdict[k] for k, unit in enumerate(parts) for i in unit.nodes}
    return [Placement(node.name, node.op_type, *by_index[i]) for i, node in enumerate(view.nodes)]


def decision(placements: Iterable[Placement]) -> Decision:
    """The placements as the data that the model carries."""
    return Decision({p.node: p.place for p in placements if p.place != "aipu"})
