"""Decides what runs on the AIPU and what joins an island.

The model becomes a list of items over fused tensors: AIPU items (a node or a one-input region, perhaps with the Relu or Clip
after it, whose operands and results are all quantized), and float items (any other node). Float items then form islands.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Quant
from axforge.axcompiler.onnx_graph.qdq import Code, Qdq
from axforge.axcompiler.onnx_graph.views import NodeView, names_read
from axforge.axcompiler.operators import find, refusal
from axforge.axcompiler.operators.base import Role
from axforge.axcompiler.placement.decision import Decision
from axforge.axcompiler.placement.regions import Region, absorbed, bounds, regions

Names = Mapping[tuple[str, Quant], str]
NOT_READ = "only 8-bit codes with one scale a tensor (or one an output channel of a weight) run on the AIPU"
EXCLUDED = "it was excluded from the AIPU"
NO_BOUNDS = (-math.inf, math.inf)


@dataclass(frozen=True)
class AipuItem:
    """nodes: indices, the function's or the one accumulating node first. region: if it is a table. bounds: of the Relu or Clip after it.

    results: (ONNX name inside the item, real tensor it becomes) of each result.
    """

    at: int
    nodes: tuple[int, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    results: tuple[tuple[str, str], ...]
    region: Region | None = None
    bounds: tuple[float, float] = NO_BOUNDS


@dataclass(frozen=True)
class CopyItem:
    """One fused tensor from another: a change of scale, or a second name for an output."""

    at: int
    source: str
    target: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The fused tensor it reads."""
        return (self.source,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The fused tensor it makes."""
        return (self.target,)


@dataclass(frozen=True)
class FloatItem:
    """A node for an island. reads, writes: fused tensors or plain ones; renamed: ONNX operand -> fused tensor. why: not on the AIPU."""

    at: int
    proto: onnx.NodeProto
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    renamed: Mapping[str, str]
    why: str


Item = AipuItem | CopyItem | FloatItem


@dataclass(frozen=True)
class Partition:
    """items in an order in which operands come first; names: fused tensor of every code."""

    items: tuple[Item, ...]
    names: Names


def plan(qdq: Qdq, decision: Decision | None = None) -> Partition:
    """The items of a model. decision: what the quantize stage recorded; without it the QDQ form alone decides.

    Raises CompileError if the model does not allow what was decided.
    """
    aipu, whys = _aipu_units(qdq)
    if decision is not None:
        aipu, whys = _as_decided(qdq, aipu, whys, decision)
    running = {n for unit in aipu for n in unit.nodes}
    floats = [i for i in range(len(qdq.view.nodes)) if i not in qdq.read and i not in running]
    visible = _float_visible(qdq, floats)
    names = _names(qdq, visible)
    items: list[Item] = [_with_tensors(qdq, unit, names) for unit in aipu]
    items += [_float_item(qdq, i, whys.get(i, ""), names, visible) for i in floats]
    items += _conversions(qdq, names, visible, aipu)
    return Partition(tuple(sorted(items, key=lambda item: item.at)), names)


# ---------------------------------------------------------------- which nodes the AIPU runs


def _aipu_units(qdq: Qdq) -> tuple[list[AipuItem], dict[int, str]]:
    """Units without their tensors yet, and for every other node why it is none."""
    view = qdq.view
    units: list[AipuItem] = []
    whys: dict[int, str] = {}
    in_region: set[int] = set()
    follower: dict[int, Region] = {}
    for region in regions(view):
        in_region.update(region.nodes)
        maker = absorbed(view, region)
        if maker is not None and region.input not in qdq.dequantized:
            follower[maker] = region
        else:
            _region_unit(qdq, region, units, whys)
    for i in range(len(view.nodes)):
        if i not in qdq.read and i not in in_region:
            _node_unit(qdq, i, follower.get(i), units, whys)
    running = {n for unit in units for n in unit.nodes}
    for maker, region in follower.items():
        if maker not in running:
            _region_unit(qdq, region, units, whys)
    return units, whys


def _as_decided(qdq: Qdq, aipu: list[AipuItem], whys: dict[int, str], decision: Decision) -> tuple[list[AipuItem], dict[int, str]]:
    """The units without those that were decided to stay in float32. Raises CompileError where the rest differs from the decision."""
    names = [node.name for node in qdq.view.nodes]
    kept = [unit for unit in aipu if not any(names[i] in decision.places for i in unit.nodes)]
    whys = whys | {i: EXCLUDED for unit in aipu for i in unit.nodes if names[i] in decision.places}
    running = {i for unit in kept for i in unit.nodes}
    for i, why in sorted(whys.items()):
        if i not in running and names[i] not in decision.places:
            raise _not_as_decided(f"'{names[i]}' was to run on the AIPU, and {why}")
    fused = {names[i]: names[unit.nodes[0]] for unit in kept if unit.region is None for i in unit.nodes[1:]}
    if decision.fused is not None and fused != decision.fused:
        name = min(name for name in {*fused, *decision.fused} if fused.get(name) != decision.fused.get(name))
        raise _not_as_decided(f"'{name}' was{' not' if name in fused else ''} to be fused into the operator before it")
    return kept, whys


def _not_as_decided(what: str) -> CompileError:
    fix = "Run the stages check and quantize again. If the model was edited by hand, remove the metadata that begins with 'axforge.'."
    return CompileError(f"the model is not what the quantize stage decided: {what}", where="quantized.onnx", fix=fix)


def _region_unit(qdq: Qdq, region: Region, units: list[AipuItem], whys: dict[int, str]) -> None:
    why = _operand_why(qdq, region.input) or _result_why(qdq, region.output)
    if any(i in qdq.read for i in region.nodes):
        return
    if why:
        whys.update(dict.fromkeys(region.nodes, why))
    else:
        units.append(AipuItem(region.nodes[-1], region.nodes, (), (), ((region.output, region.output),), region=region))


def _node_unit(qdq: Qdq, i: int, follower: Region | None, units: list[AipuItem], whys: dict[int, str]) -> None:
    node = qdq.view.nodes[i]
    why = NOT_READ if node.op_type in ("QuantizeLinear", "DequantizeLinear") else refusal(node) or _operands_why(qdq, node)
    if follower and not why:
        why = _result_why(qdq, follower.output)
        if not why:
            clip = bounds(tuple(qdq.view.nodes[k] for k in follower.nodes))
            assert clip is not None
            nodes = (i, *follower.nodes)
            units.append(AipuItem(max(nodes), nodes, (), (), ((node.outputs[0], follower.output),), bounds=clip))
            return
    why = why or next((w for name in node.outputs if name and (w := _result_why(qdq, name))), None)
    if why:
        whys[i] = why
    else:
        units.append(AipuItem(i, (i,), (), (), tuple((n, n) for n in node.outputs if n)))


def _operands_why(qdq: Qdq, node: NodeView) -> str | None:
    operator = find(node.op_type, node.domain)
    assert operator is not None
    for name, role in zip(node.inputs, operator.roles(node), strict=True):
        if not name:
            continue
        if role is Role.ACTIVATION and name not in qdq.view.constants:
            why = _operand_why(qdq, name)
        elif role is Role.WEIGHT:
            why = _weight_refusal(qdq, name, operator.weight_axis(node))
        else:
            why = None if name in qdq.view.constants else f"'{name}' is not constant"
        if why:
            return why
    return None


def _operand_why(qdq: Qdq, name: str) -> str | None:
    if name in qdq.dequantized:
        return None
    maker = qdq.view.makers.get(name)
    codes = qdq.view.nodes[maker].inputs[0] if maker is not None and qdq.view.nodes[maker].op_type == "DequantizeLinear" else ""
    wide = qdq.view.dtypes.get(codes) in ("int16", "uint16")
    return f"operand '{name}' is quantized to 16 bits, and the AIPU computes with 8" if wide else f"operand '{name}' is not quantized"


def _result_why(qdq: Qdq, name: str) -> str | None:
    """A result of the AIPU must go to QuantizeLinear only (or nowhere)."""
    view = qdq.view
    if name in view.outputs:
        return f"result '{name}' is an output in float32"
    users = view.users.get(name, ())
    quantized = {i for i in users if i in qdq.read and view.nodes[i].op_type == "QuantizeLinear"}
    if len(quantized) != len(users):
        return f"result '{name}' is used in float32"
    if users and name not in qdq.codes:
        return f"result '{name}' is not quantized"
    return None if users else f"result '{name}' is not used"


def _weight_refusal(qdq: Qdq, name: str, axis: int) -> str | None:
    """Why the constant `name` is not an int8 weight with its output channels on `axis`; None if it is."""
    stored = qdq.constants.get(name)
    if stored is None or stored.bits != 8:
        return "its weight is not quantized to 8 bits"
    if stored.scales.size > 1 and stored.axis != axis:
        return f"its weight is quantized along axis {stored.axis} rather than output channels (axis {axis})"
    if int(stored.codes.min(initial=0)) < -128 or int(stored.codes.max(initial=0)) > 127:
        return "its weight has a zero point that is not in the middle"
    if not (np.isfinite(stored.scales).all() and (stored.scales > 0).all()):
        return "its weight has a scale that is not positive"
    return None


# ---------------------------------------------------------------- names and tensors


def _float_visible(qdq: Qdq, floats: Sequence[int]) -> set[str]:
    """Real tensors that are needed as float32: read by a float node, or an output."""
    read = {name for i in floats for name in names_read(qdq.view.protos[i])}
    return (read | set(qdq.view.outputs)) - qdq.dequantized.keys()


def _names(qdq: Qdq, visible: set[str]) -> dict[tuple[str, Quant], str]:
    """The fused tensor of each code: an output's name, else the real tensor's if no float32 tensor has it, else that of the codes."""
    outputs: dict[tuple[str, Quant], str] = {}
    for name in qdq.view.outputs:
        if name in qdq.dequantized:
            code = qdq.dequantized[name]
            outputs.setdefault((code.real, code.quant), name)
    names: dict[tuple[str, Quant], str] = {}
    for real, codes in qdq.codes.items():
        for k, code in enumerate(codes):
            key = (real, code.quant)
            if real in qdq.view.inputs and len(codes) == 1 and real not in visible:
                names[key] = real
            elif key in outputs:
                names[key] = outputs[key]
            else:
                free = k == 0 and real not in visible and real not in qdq.dequantized and real not in qdq.view.inputs
                names[key] = real if free else code.q
    return names


def _with_tensors(qdq: Qdq, unit: AipuItem, names: Names) -> AipuItem:
    view = qdq.view
    sources = [unit.region.input] if unit.region else [n for n in view.nodes[unit.nodes[0]].inputs if n in qdq.dequantized]
    reads = tuple(dict.fromkeys(names[c.real, c.quant] for c in (qdq.dequantized[s] for s in sources)))
    writes = tuple(names[c.real, c.quant] for _, real in unit.results for c in qdq.codes[real])
    return AipuItem(unit.at, unit.nodes, reads, writes, unit.results, unit.region, unit.bounds)


def _fused(qdq: Qdq, names: Names, name: str) -> str:
    code: Code | None = qdq.dequantized.get(name)
    return names[code.real, code.quant] if code else name


def _float_item(qdq: Qdq, i: int, why: str, names: Names, visible: set[str]) -> FloatItem:
    proto = qdq.view.protos[i]
    read = sorted({name for name in names_read(proto) if name not in qdq.view.constants})
    renamed = {name: _fused(qdq, names, name) for name in read if name in qdq.dequantized}
    writes: list[str] = []
    for name in filter(None, proto.output):
        codes = [names[name, c.quant] for c in qdq.codes.get(name, ())]
        writes += [name] if name in visible or not codes or name in codes else []
        if name not in writes:  # only codes are needed, under other names: Identity items make them of the float tensor
            writes.append(name)
    return FloatItem(i, proto, tuple(dict.fromkeys(renamed.get(n, n) for n in read)), tuple(writes), renamed, why)


def _conversions(qdq: Qdq, names: Names, visible: set[str], aipu: Sequence[AipuItem]) -> list[Item]:
    """Items for codes that no node makes: of an input or a float tensor under another name, of another code, of an output's twin."""
    view = qdq.view
    items: list[Item] = []
    made_by_aipu = {real for unit in aipu for _, real in unit.results}
    for real, codes in qdq.codes.items():
        if real in made_by_aipu:
            continue
        at = view.makers.get(real, -1)
        for code in codes:
            name = names[real, code.quant]
            if real in qdq.dequantized:
                items.append(CopyItem(at, _fused(qdq, names, real), name))
            elif name != real:
                proto = onnx.helper.make_node("Identity", [real], [name], name=f"{name}_entry")
                items.append(FloatItem(at, proto, (real,), (name,), {}, f"'{real}' is also used in float32"))
    for k, name in enumerate(view.outputs):
        source = _fused(qdq, names, name)
        if name in qdq.dequantized and source != name:
            items.append(CopyItem(len(view.nodes) + k, source, name))
        elif name in view.constants:
            value = onnx.numpy_helper.from_array(view.constants[name])
            proto = onnx.helper.make_node("Constant", [], [name], name=f"{name}_constant", value=value)
            items.append(FloatItem(len(view.nodes) + k, proto, (), (name,), {}, "a constant output"))
    return items
