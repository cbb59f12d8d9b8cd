"""From any ONNX model to a plain one that computes the same: static shapes, folded, simplified."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import checker

from axforge.axcompiler.check.passes import BEFORE_SHAPES, ON_MODEL, UNTIL_STABLE, UNTIL_STABLE_QUANTIZED
from axforge.axcompiler.check.passes.base import RepeatedPass
from axforge.axcompiler.check.passes.convert_opset import ConvertOpset
from axforge.axcompiler.check.passes.name_nodes import name_nodes
from axforge.axcompiler.check.passes.remove_dead import RemoveDead
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph import shapes
from axforge.axcompiler.onnx_graph.net import Net, from_model, reads
from axforge.axcompiler.onnx_graph.qdq import is_quantized
from axforge.axcompiler.passes import Observer, Runner, ignore, with_options


def clean(model: onnx.ModelProto, pinned: Mapping[str, Sequence[int]], where: str, observe: Observer = ignore) -> Net:
    """The model with static shapes, folded and simplified. Raises CompileError on an invalid model or shapes it cannot fix."""
    validate(model, where)
    runner = Runner(model, observe)
    original: dict[str, str] = {}
    for one in with_options(ON_MODEL, where=where):
        if isinstance(one, ConvertOpset):  # the report names the nodes as they were before onnx rewrote them
            original = {n.name: n.op_type for n in runner.ir.graph.node}
        runner.apply(one)
    net = _sorted(from_model(runner.ir), where)
    _simplify(net, pinned, where, observe)
    present = {n.name for n in net.nodes}
    for name, op_type in original.items():
        if name not in present:
            net.removed.setdefault(name, (op_type, "converting the opset replaced it"))
    net.removed = {name: why for name, why in sorted(net.removed.items()) if name in original and name not in present}
    return net


def validate(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError if ONNX's own checker refuses the model.

    Inputs and outputs without a shape, which the checker refuses, are common and harmless: they get one while it looks.
    """
    shapeless = [v for v in (*model.graph.input, *model.graph.output) if _lacks_shape(v)]
    for value in shapeless:
        value.type.tensor_type.shape.SetInParent()
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError, RuntimeError) as e:
        raise CompileError(
            f"the model is not valid ONNX: {' '.join(str(e).split())}", where=where, fix="Export the model again, or ask who made it."
        ) from e
    finally:
        for value in shapeless:
            value.type.tensor_type.ClearField("shape")


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _simplify(net: Net, pinned: Mapping[str, Sequence[int]], where: str, observe: Observer) -> None:
    """Fold and rewrite until nothing changes. A quantized model is only folded: its graph is what its maker chose."""
    runner = Runner(net, observe)
    runner.run(with_options(BEFORE_SHAPES, pinned=pinned, where=where))
    passes = UNTIL_STABLE_QUANTIZED if is_quantized(net.nodes) else UNTIL_STABLE
    shapes.infer(net, where)
    changed = True
    while changed:
        changed = False
        for one in passes:
            changed |= _until_stable(runner, one, where)
        if changed:
            shapes.infer(net, where)
    runner.apply(RemoveDead())


def _until_stable(runner: Runner[Net], one: RepeatedPass, where: str) -> bool:
    """Run a pass until it changes nothing (or once, if that is its way). True if it changed anything."""
    changed = False
    while runner.apply(one).changed:
        changed = True
        if not one.keeps_shapes:
            shapes.infer(runner.ir, where)
        if one.once:
            break
    return changed


def _sorted(net: Net, where: str) -> Net:
    """Name the nodes and put them in an order in which each value is made before it is read; the file's order where that is one.

    The order is that of rounds through the file: each node comes in the first round in which all that it reads is there.
    """
    name_nodes(net.nodes)
    made_by = {o: i for i, n in enumerate(net.nodes) for o in n.output if o}
    sources = [{made_by[name] for name in reads(n) if name in made_by} for n in net.nodes]
    users: list[list[int]] = [[] for _ in net.nodes]
    for i, read in enumerate(sources):
        for j in read:
            users[j].append(i)
    rounds, waiting = [0] * len(net.nodes), [len(read) for read in sources]
    ready = [i for i, count in enumerate(waiting) if not count]
    for i in ready:  # grows
        rounds[i] = max((rounds[j] + (j > i) for j in sources[i]), default=0)
        for user in users[i]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    if len(ready) < len(net.nodes):
        first = next(n.name for n, count in zip(net.nodes, waiting, strict=True) if count)
        raise CompileError("the graph has a cycle", where=first, fix="Export the model again.")
    _refuse_unmade(net, where)
    net.nodes = [net.nodes[i] for i in sorted(ready, key=lambda i: (rounds[i], i))]
    return net


def _refuse_unmade(net: Net, where: str) -> None:
    """Raises CompileError for a value that nothing makes; ONNX's checker does not look into functions."""
    known = net.names()
    for node in net.nodes:
        for name in node.input:
            if name and name not in known:
                what = f"the model is not valid ONNX: '{node.name}' reads '{name}', which nothing makes"
                raise CompileError(what, where=where, fix="Export the model again, or ask who made it.")
    if not net.inputs:
        raise CompileError("the model has no input, so its results never change", where=where, fix="Export it with its inputs.")
