"""One-input regions: what is found, what is left apart, and that a region is a function of its input alone."""

import numpy as np
import onnx_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from qdq_models import Model, plain_run

from axforge.axcompiler.onnx_graph.views import view
from axforge.axcompiler.placement import regions as module
from axforge.axcompiler.placement.regions import LARGEST, absorbed, bounds, regions


def found(model):
    seen = view(model)
    return [(r.input, r.output, [seen.nodes[i].op_type for i in r.nodes]) for r in regions(seen)]


def hard_swish(m, x):
    clipped = m.node("Clip", m.node("Add", x, m.constant(3.0)), m.constant(0.0), m.constant(6.0))
    return m.node("Div", m.node("Mul", x, clipped), m.constant(6.0))


def gelu(m, x):
    e = m.node("Erf", m.node("Div", x, m.constant(1.4142135)))
    return m.node("Mul", m.node("Mul", x, m.node("Add", e, m.constant(1.0))), m.constant(0.5))


def mish(m, x):
    return m.node("Mul", x, m.node("Tanh", m.node("Softplus", x)))


def selected(m, x):
    return m.node("Where", m.node("Greater", x, m.constant(0.5)), x, m.node("Mul", x, m.constant(0.1)))


@pytest.mark.parametrize("form, nodes", [(hard_swish, 4), (gelu, 5), (mish, 3), (selected, 3)])
def test_functions_written_out_are_one_region(form, nodes):
    m = Model()
    y = form(m, m.node("Conv", m.input("x", (1, 2, 3, 3)), m.constant(np.ones((2, 2, 1, 1)))))
    ((source, result, inside),) = found(m.build(y))
    assert (source, result, len(inside)) == ("t0_0", y, nodes)


def test_a_tensor_that_others_read_ends_a_region():
    m = Model()
    r = m.node("Relu", m.input("x", (2, 3)))
    s = m.node("Sigmoid", r)
    model = m.build(m.node("MatMul", r, m.constant(np.ones((3, 3)))), s)
    assert [x[2] for x in found(model)] == [["Relu"], ["Sigmoid"]]


def test_an_output_ends_a_region():
    m = Model()
    r = m.node("Relu", m.input("x", (2, 3)))
    assert [x[2] for x in found(m.build(r, m.node("Sigmoid", r)))] == [["Relu"], ["Sigmoid"]]


def test_the_sum_of_two_tensors_is_no_region_but_what_follows_is():
    m = Model()
    t = m.node("Add", m.input("a", (2, 3)), m.input("b", (2, 3)))
    assert [x[2] for x in found(m.build(m.node("Mul", t, m.node("Sigmoid", t))))] == [["Sigmoid", "Mul"]]


def test_vectors_broadcasts_and_other_types_are_no_regions():
    m = Model()
    a = m.node("Mul", m.input("x", (2, 3)), m.constant([1.0, 2.0, 3.0]))
    b = m.node("Add", m.input("y", (3,)), m.constant([[1.0]]))
    c = m.node("Cast", m.input("z", (3,)), to=7)
    assert found(m.build(a, b, c)) == []


def test_bounds_of_chains():
    m = Model()
    y = m.node("Min", m.node("Relu", m.input("x", (2, 3))), m.constant(6.0))
    seen = view(m.build(m.node("Clip", y, m.constant(-1.0), "")))
    assert bounds(seen.nodes) == (0.0, 6.0)
    assert bounds((*seen.nodes, view(Model_sigmoid()).nodes[0])) is None


def Model_sigmoid():
    m = Model()
    return m.build(m.node("Sigmoid", m.input("x", (2,))))


def test_only_a_clip_that_alone_reads_an_accumulator_is_absorbed():
    m = Model()
    x, w = m.input("x", (1, 2, 3, 3)), m.constant(np.ones((2, 2, 1, 1)))
    alone = m.node("Relu", m.node("Conv", x, w))
    shared = m.node("Conv", x, w)
    outs = [alone, m.node("Relu", shared), m.node("Softmax", shared), m.node("Relu", m.node("MaxPool", x, kernel_shape=[2, 2]))]
    seen = view(m.build(*outs))
    makers = [absorbed(seen, r) for r in regions(seen)]
    assert [None if i is None else seen.nodes[i].op_type for i in makers] == ["Conv", None, None]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12), st.data())
def test_each_region_of_a_random_model_is_a_function_of_its_input(steps, data):
    """Cut out, it gives the same result from its input alone; regions do not overlap, and nobody reads their inside."""
    m = Model()
    tensors = [m.input("a", (2, 3)), m.input("b", (2, 3))]
    for kind, i, j in steps:
        x, y = tensors[i % len(tensors)], tensors[j % len(tensors)]
        op = ["Tanh", "Relu", "Add", "Mul", "AddNumber", "Softmax"][kind]
        second = {"Add": (y,), "Mul": (y,), "AddNumber": (m.constant(0.5),)}.get(op, ())
        tensors.append(m.node(op.removesuffix("Number"), x, *second))
    outputs = [tensors[-1], *data.draw(st.lists(st.sampled_from(tensors[2:]), max_size=2))]
    model = m.build(*dict.fromkeys(outputs))
    seen = view(model)
    rng = np.random.default_rng(0)
    feeds = {n: rng.normal(size=(2, 3)).astype(np.float32) for n in ("a", "b")}
    everything = m.build(*dict.fromkeys(tensors[2:]))
    values = dict(zip(dict.fromkeys(tensors[2:]), plain_run(everything, feeds), strict=True)) | feeds
    taken: set[int] = set()
    for region in regions(seen):
        assert not taken & set(region.nodes)
        taken |= set(region.nodes)
        inside = {o for i in region.nodes for o in seen.nodes[i].outputs} - {region.output}
        assert not inside & set(seen.outputs)
        assert all(set(seen.users[n]) <= set(region.nodes) for n in inside)
        cut = Model()
        cut.initializers = m.initializers
        cut.nodes = [seen.protos[i] for i in region.nodes]
        cut.input(region.input, (2, 3))
        (result,) = plain_run(cut.build(region.output), {region.input: values[region.input]})
        np.testing.assert_array_equal(result, values[region.output])


@pytest.mark.parametrize(("operands", "most"), [([], 3), ([np.float32(2)], 3), ([np.ones(4, np.float32)], 3), (["y"], LARGEST + 3)])
def test_long_chains_are_searched_in_time_that_is_linear_in_their_nodes(monkeypatch, operands, most):
    """One function, a function of numbers, one that never fits, and one of two tensors; the last searches back from every node."""
    count, asked = 2000, []
    nodes, constants, at = [], {}, "x"
    for i in range(count):
        others = [o if isinstance(o, str) else f"c{i}" for o in operands]
        constants |= {f"c{i}": o for o in operands if not isinstance(o, str)}
        nodes.append(helper.make_node("Mul" if others else "Sigmoid", [at, *others], [f"t{i}"], f"n{i}"))
        at = f"t{i}"
    seen = view(onnx_models.model(nodes, {"x": [1, 4], "y": [1, 4]}, [at], constants))
    elementwise = module._elementwise
    monkeypatch.setattr(module, "_elementwise", lambda *args: asked.append(1) or elementwise(*args))
    assert all(len(r.nodes) <= LARGEST + 1 for r in regions(seen))
    assert len(asked) <= most * count
