"""Each pass rewrites what its docstring shows, and no pass changes a single bit of any answer."""

import numpy as np
import pytest
from graphs import feeds_for, graphs
from hypothesis import given, settings

from axforge.axcompiler import ir, optimize, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.lowering import tables
from axforge.axcompiler.optimize.passes.drop_identities import DropIdentities
from axforge.axcompiler.optimize.passes.fuse_padding import FusePadding
from axforge.axcompiler.optimize.passes.fuse_tables import FuseTables
from axforge.axcompiler.optimize.passes.fuse_tables_into_concat import FuseTablesIntoConcat
from axforge.axcompiler.optimize.passes.join_shapes import JoinShapes
from axforge.axcompiler.optimize.passes.merge_constants import MergeConstants
from axforge.axcompiler.optimize.passes.shuffles_to_takes import ShufflesToTakes
from axforge.axcompiler.reference import Reference

Q = Quant(0.5, 3)


@pytest.mark.parametrize("rewrite", optimize.PASSES, ids=lambda p: p.name)
@settings(max_examples=30, deadline=None)
@given(graph=graphs(max_ops=8))
def test_no_pass_changes_an_answer(rewrite, graph):
    after = rewrite.apply(graph).ir
    spec.check(after)
    feeds = feeds_for(graph)
    before = Reference(graph).run(feeds, raw=True)
    for name, value in Reference(after).run(feeds, raw=True).items():
        np.testing.assert_array_equal(value, before[name])
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)


def graph_of(ops, shapes, constants=None, outputs=("y",)):
    graph = Graph("g", {n: Tensor(s, quant=Q) for n, s in shapes.items()}, tuple(ops), ("x",), outputs, constants or {})
    spec.check(graph)
    return graph


def equal_answers(before, after):
    spec.check(after)
    feeds = {n: np.random.default_rng(0).integers(-128, 128, before.tensors[n].shape).astype(np.int8) for n in before.inputs}
    a, b = Reference(before).run(feeds, raw=True), Reference(after).run(feeds, raw=True)
    assert all(np.array_equal(a[n], b[n]) for n in a)
    return [type(op).__name__ for op in after.ops]


def reshape(name, a, b):
    return ir.Reshape(name=name, inputs=(a,), outputs=(b,))


def test_identities_and_chains_of_shapes():
    ops = [reshape("a", "x", "u"), reshape("b", "u", "v"), reshape("c", "v", "y")]
    graph = graph_of(ops, {"x": (2, 6), "u": (2, 6), "v": (3, 4), "y": (12,)})
    assert equal_answers(graph, DropIdentities().apply(graph).ir) == ["Reshape", "Reshape"]
    assert equal_answers(graph, JoinShapes().apply(graph).ir) == ["Reshape"]


def test_two_transposes_become_one_and_an_output_keeps_its_operator():
    ops = [
        ir.Transpose(name=n, inputs=(a,), outputs=(b,), perm=(1, 2, 0)) for n, a, b in (("a", "x", "u"), ("b", "u", "v"), ("c", "v", "y"))
    ]
    graph = graph_of(ops, {"x": (2, 3, 4), "u": (3, 4, 2), "v": (4, 2, 3), "y": (2, 3, 4)})
    joined = JoinShapes().apply(graph).ir
    assert equal_answers(graph, joined) == ["Transpose"]
    assert joined.ops[0].perm == (0, 1, 2)
    assert len(DropIdentities().apply(joined).ir.ops) == 1, "y is an output and must be made"


def table(name, a, b, constant):
    return ir.Table(name=name, inputs=(a,), outputs=(b,), table=constant)


def test_tables_move_into_what_makes_their_operand():
    rng = np.random.default_rng(1)
    constants = {c: rng.integers(-128, 128, 256).astype(np.int8) for c in "pq"}
    add = ir.Add(name="add", inputs=("x", "x"), outputs=("u",), multipliers=(0.5, 0.25), epilogue=Epilogue(3))
    graph = graph_of([add, table("s", "u", "v", "p"), table("t", "v", "y", "q")], dict.fromkeys("xuvy", (5, 7)), constants)
    fused = FuseTables().apply(graph).ir
    assert equal_answers(graph, fused) == ["Add"]
    assert len(fused.constants) == 1
    shared = graph_of([add, table("s", "u", "y", "p")], dict.fromkeys("xuy", (5, 7)), constants, outputs=("y", "u"))
    assert equal_answers(shared, FuseTables().apply(shared).ir) == ["Add", "Table"]


def test_tables_move_into_a_concat():
    constants = {"p": np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8)}
    concat = ir.Concat(name="c", inputs=("u", "x"), outputs=("y",), axis=0, tables=(None, None))
    graph = graph_of([table("s", "x", "u", "p"), concat], {"x": (2, 3), "u": (2, 3), "y": (4, 3)}, constants)
    assert equal_answers(graph, FuseTablesIntoConcat().apply(graph).ir) == ["Concat"]


@pytest.mark.parametrize("value, pads, fused", [(3, (0, 0, 1, 2), True), (4, (0, 0, 1, 2), False), (3, (0, 1, 1, 2), False)])
def test_padding_moves_into_a_pool_or_convolution_only_if_neutral(value, pads, fused):
    channels = 2 + pads[1]
    constants = {
        "w": np.random.default_rng(1).integers(-127, 128, (3, channels, 2, 2)).astype(np.int8),
        "b": np.zeros(3, np.int32), "m": np.full(3, 0.01, np.float32),
    }  # fmt: skip
    pad = ir.Pad(name="p", inputs=("x",), outputs=("u",), before=pads, after=pads, value=value)
    conv = ir.Conv(name="c", inputs=("u",), outputs=("y",), weight="w", bias="b", multiplier="m", epilogue=Epilogue(3))
    shapes = {"x": (1, 2, 5, 5), "u": (1, 2 + 2 * pads[1], 7, 9), "y": (1, 3, 6, 8)}
    if pads[1]:
        constants["w"] = np.zeros((3, 4, 2, 2), np.int8)
    graph = graph_of([pad, conv], shapes, constants)
    assert equal_answers(graph, FusePadding().apply(graph).ir) == (["Conv"] if fused else ["Pad", "Conv"])


def test_a_channel_shuffle_is_one_selection():
    """As ShuffleNet writes it: channels in two groups, interleaved; then the even half."""
    ops = [
        reshape("a", "x", "u"),
        ir.Transpose(name="t", inputs=("u",), outputs=("v",), perm=(0, 2, 1, 3, 4)),
        reshape("b", "v", "w"),
        ir.Take(name="k", inputs=("w",), outputs=("y",), axis=1, index="i"),
    ]
    shapes = {"x": (1, 6, 4, 5), "u": (1, 2, 3, 4, 5), "v": (1, 3, 2, 4, 5), "w": (1, 6, 4, 5), "y": (1, 3, 4, 5)}
    graph = graph_of(ops, shapes, {"i": np.array([0, 2, 4], np.int32)})
    after = ShufflesToTakes().apply(graph).ir
    assert equal_answers(graph, after) == ["Take"]
    assert after.constants[after.ops[0].index].tolist() == [0, 1, 2]


def test_depth_to_space_is_no_selection_and_stays():
    ops = [
        reshape("a", "x", "u"),
        ir.Transpose(name="t", inputs=("u",), outputs=("v",), perm=(0, 3, 4, 1, 5, 2)),
        reshape("b", "v", "y"),
    ]
    graph = graph_of(ops, {"x": (1, 4, 3, 5), "u": (1, 2, 2, 1, 3, 5), "v": (1, 1, 3, 2, 5, 2), "y": (1, 1, 6, 10)})
    assert equal_answers(graph, ShufflesToTakes().apply(graph).ir) == ["Reshape", "Transpose", "Reshape"]


def test_equal_constants_are_kept_once():
    constants = {c: np.arange(-128, 128).astype(np.int8)[::-1].copy() for c in "pq"}
    graph = graph_of([table("s", "x", "u", "p"), table("t", "u", "y", "q")], dict.fromkeys("xuy", (3,)), constants)
    assert len(MergeConstants().apply(graph).ir.constants) == 1


def test_composed_tables_are_the_composition():
    rng = np.random.default_rng(2)
    a, b, x = (rng.integers(-128, 128, 256).astype(np.int8) for _ in range(3))
    np.testing.assert_array_equal(tables.compose(a, b)[x.astype(int) + 128], b[a[x.astype(int) + 128].astype(int) + 128])
