"""Whatever the AIPU lacks runs in islands, anywhere in the graph, also in several places, and the answer is onnxruntime's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qdq_models import Model, assert_within, compiled, kinds

from axforge.axcompiler import graphfile, ir, spec, stages
from axforge.axcompiler.errors import AxforgeError

RNG = np.random.default_rng(8)
X = RNG.normal(size=(1, 3, 4, 4)).astype(np.float32)


def layer(m, x):
    """Quantize, convolve, quantize."""
    w = m.weight(np.random.default_rng(len(m.nodes)).integers(-127, 128, (3, 3, 1, 1)), 0.01)
    return m.qdq(m.node("Conv", m.qdq(x, 0.03, 0), w), 0.03, 0)


def test_an_island_in_the_middle():
    m = Model()
    y = m.node("LpNormalization", layer(m, m.input("x", X.shape)))
    graph = assert_within(m.build(layer(m, y)), {"x": X})
    assert kinds(graph) == ["Conv", "Island", "Conv"]
    assert "the AIPU has no operator for LpNormalization" in graph.ops[1].reason


def test_a_branch_around_the_aipu_makes_no_cycle():
    """Sin before and after a layer, both feeding one node: one island would have to run before and after that layer."""
    m = Model()
    s = m.node("Sin", m.node("Cos", m.input("x", X.shape)))
    t = m.node("Atan", m.node("Sum", s, layer(m, s), m.node("Tan", s)))
    graph = assert_within(m.build(t), {"x": X})
    assert kinds(graph) == ["Island", "Conv", "Island"]


def test_two_parts_that_nothing_connects_are_two_islands_and_neighbours_are_one():
    m = Model()
    x = m.input("x", X.shape)
    a = m.node("Cos", m.node("LpNormalization", layer(m, x)))
    b = m.node("Cos", m.node("LpNormalization", layer(m, x)))
    assert kinds(assert_within(m.build(a, b), {"x": X})).count("Island") == 2


def test_subgraphs_take_what_they_need_from_outside():
    m = Model()
    x = layer(m, m.input("x", X.shape))
    total = m.node("ReduceSum", x, keepdims=0)
    condition = m.node("Greater", total, m.constant(0.0))

    def branch(op):
        info = helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, X.shape)
        return helper.make_graph([helper.make_node(op, [x], [f"{op}_y"])], op, [], [info])

    y = m.node("If", condition, then_branch=branch("Cos"), else_branch=branch("Sin"))
    graph = assert_within(m.build(layer(m, y)), {"x": X})
    assert kinds(graph) == ["Conv", "Island", "Conv"]


def test_a_size_that_depends_on_data_stays_inside_the_islands_tail():
    m = Model()
    c = m.node("Relu", layer(m, m.input("x", X.shape)))
    graph = assert_within(m.build(m.node("NonZero", c)), {"x": X})
    assert graph.tensors[graph.outputs[0]].shape[1] == -1


def test_an_island_is_a_model_of_its_own_without_remarks():
    m = Model()
    y = m.node("Cos", m.node("LpNormalization", layer(m, m.input("x", X.shape))))
    m.nodes[-1].doc_string = "traced from /home/someone/model.py"
    graph = compiled(m.build(y))
    (data,) = graph.islands.values()
    island = onnx.load_from_string(data)
    onnx.checker.check_model(island, full_check=True)
    assert b"someone" not in data
    assert {n.op_type for n in island.graph.node} == {"Cos", "LpNormalization"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=10), st.booleans())
def test_random_mixtures(steps, unsigned):
    """Layers, copies, sums and functions, quantized or not, in any order: sound graphs, and onnxruntime's answer."""
    m = Model(unsigned=unsigned)
    tensors = [m.input("x", X.shape)]
    for kind, i, j in steps:
        a, b = tensors[i % len(tensors)], tensors[j % len(tensors)]
        tensors.append([
            lambda a, b: layer(m, a),
            lambda a, b: m.node("Sin", a),
            lambda a, b: m.node("Add", a, b),
            lambda a, b: m.qdq(m.node("Add", m.qdq(a, 0.03, 0), m.qdq(b, 0.04, 5)), 0.05, -3),
            lambda a, b: m.qdq(a, 0.02, 7),
            lambda a, b: m.qdq(m.node("Tanh", m.qdq(a, 0.02, 7)), 1 / 127, 0),
            lambda a, b: m.qdq(m.node("Transpose", m.qdq(a, 0.02, 7), perm=[0, 1, 3, 2]), 0.02, 7),
        ][kind](a, b))  # fmt: skip
    outputs = dict.fromkeys([tensors[-1], tensors[len(tensors) // 2 or 1]])
    # a tie that falls to the other side moves what follows, by a quantum of each layer in between
    assert_loosely(m.build(*outputs), {"x": X}, depth=len(steps))


def assert_loosely(model, feeds, depth):
    from qdq_models import plain_run

    from axforge.axcompiler.reference import Reference

    graph = compiled(model)
    spec.check(graph)
    for got, want in zip(Reference(graph).run(feeds).values(), plain_run(model, feeds), strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 0.06 * 2**depth
        assert np.mean(np.abs(got - want) > 1e-3) < 0.2


def test_the_stage_writes_the_same_bytes_whatever_the_hash_seed(tmp_path: Path):
    m = Model()
    x = layer(m, m.input("x", X.shape))
    y = m.node("Sum", m.node("Cos", x), m.node("Sin", x), m.node("LpNormalization", layer(m, x)))
    onnx.save(m.build(m.node("Concat", m.node("Cos", y), y, axis=1)), tmp_path / "quantized.onnx")
    code = (
        "import sys; from pathlib import Path; from axforge.axcompiler import optimize, stages;"
        "p = Path(sys.argv[1]); optimize.run({'quantized.onnx': p / 'quantized.onnx'}, stages.OptimizeConfig(), p, stages.silent)"
    )
    written = set()
    for seed in ("0", "1", "2"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        written.add((tmp_path / "graph.axgraph").read_bytes())
    assert len(written) == 1
    assert isinstance(graphfile.load(tmp_path / "graph.axgraph"), ir.Graph)
    assert stages.BY_NAME["optimize"].outputs == ("graph.axgraph",)


def test_contradictory_shapes_are_a_sentence() -> None:
    m = Model()
    m.node("MatMul", m.input("a", (2, 3)), m.input("b", (4, 5)), out="y")
    graph = helper.make_graph(m.nodes, "g", m.inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 5))])
    with pytest.raises(AxforgeError, match="Incompatible dimensions"):
        compiled(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
