"""Every operator without weights, lowered from QDQ, is within one quantum of onnxruntime; copies are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_models import Model, assert_within, kinds

RNG = np.random.default_rng(5)


def one(op, shape=(1, 3, 6, 7), opset=17, arguments=(), same=True, quanta=1.0, **attributes):
    """x -> op(x, constants) -> y on the AIPU alone; `same`: one scale in and out."""
    m = Model(opset)
    constants = ["" if a is None else m.constant(a, np.asarray(a).dtype) for a in arguments]
    y = m.node(op, m.qdq(m.input("x", shape), 0.02, 3), *constants, **attributes)
    model = m.build(m.qdq(y, 0.02 if same else 0.013, 3 if same else -20, out="y"))
    graph = assert_within(model, {"x": RNG.normal(size=shape).astype(np.float32)}, quanta)
    assert "Island" not in kinds(graph), graph.ops
    return graph


I64 = np.int64
COPIES = {
    "max_pool": ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    "max_pool_ceil": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max_pool_same": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "max_pool_dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    "global_max": ("GlobalMaxPool", {}),
    "transpose": ("Transpose", {"perm": [0, 2, 3, 1]}),
    "reverse": ("Transpose", {}),
    "flatten": ("Flatten", {"axis": 2}),
    "identity": ("Identity", {}),
    "reduce_max": ("ReduceMax", {"axes": [1, -1], "keepdims": 0}),
    "reduce_max_all": ("ReduceMax", {"keepdims": 1}),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("same", [True, False])
def test_copies(name, same):
    op, attributes = COPIES[name]
    one(op, same=same, **attributes)


WITH_PARAMETERS = {
    "reshape": ("Reshape", [np.array([0, -1, 2], I64)], {}, (2, 3, 4)),
    "squeeze": ("Squeeze", [np.array([0, -1], I64)], {}, (1, 3, 4, 1)),
    "unsqueeze": ("Unsqueeze", [np.array([1, -1], I64)], {}, (3, 4)),
    "slice": ("Slice", [np.array([1, -1], I64), np.array([2**40, -6], I64), np.array([1, -1], I64), np.array([1, -2], I64)], {}, (2, 5, 9)),
    "slice_all_axes": ("Slice", [np.array([0, 1], I64), np.array([2, -1], I64)], {}, (2, 5)),
    "slice_of_one": ("Slice", [np.array([4], I64), np.array([-(2**40)], I64), np.array([1], I64), np.array([-7], I64)], {}, (1, 5)),
    "slice_back": ("Slice", [np.array([-1], I64), np.array([-(2**40)], I64), np.array([0], I64), np.array([-1], I64)], {}, (5, 2)),
    "gather": ("Gather", [np.array([[0, -1], [2, 2]], I64)], {"axis": 1}, (2, 3, 4)),
    "gather_one": ("Gather", [np.array(-2, I64)], {"axis": 1}, (2, 3, 4)),
    "expand": ("Expand", [np.array([2, 1, 3, 5], I64)], {}, (3, 1)),
    "tile": ("Tile", [np.array([2, 1, 3], I64)], {}, (2, 3, 4)),
    "pad": ("Pad", [np.array([0, 1, 2, 0], I64), np.array(0.3, np.float32)], {}, (3, 4)),
    "pad_and_crop": ("Pad", [np.array([0, -1, 2, -1], I64)], {}, (3, 4)),
    "pad_reflect": ("Pad", [np.array([2, 1, 0, 3], I64)], {"mode": "reflect"}, (3, 4)),
    "pad_edge": ("Pad", [np.array([2, 1, 0, 3], I64)], {"mode": "edge"}, (3, 4)),
    "resize_nearest": ("Resize", [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}, (1, 2, 3, 4)),
    "resize_linear": ("Resize", [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}, (1, 2, 3, 4)),
    "dropout": ("Dropout", [np.array(0.5, np.float32)], {}, (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_PARAMETERS)
@pytest.mark.parametrize("same", [True, False])
def test_operators_with_constant_parameters(name, same):
    op, arguments, attributes, shape = WITH_PARAMETERS[name]
    one(op, shape, arguments=arguments, same=same, quanta=1.0 if same else 2.0, **attributes)


OLD_FORMS = {
    "slice_9": ("Slice", 9, {"starts": [1, -3], "ends": [9, 2**31], "axes": [0, 2]}),
    "squeeze_11": ("Squeeze", 11, {"axes": [0]}),
    "unsqueeze_11": ("Unsqueeze", 11, {"axes": [0, 4]}),
    "pad_10": ("Pad", 10, {"pads": [0, 1, 0, 0, 0, 2], "value": 0.3}),
    "softmax_11": ("Softmax", 11, {"axis": 1}),
    "upsample_9": ("Upsample", 9, {"mode": "nearest"}),
}


@pytest.mark.parametrize("name", OLD_FORMS)
def test_attribute_forms_of_old_opsets(name):
    op, opset, attributes = OLD_FORMS[name]
    if opset == 9:  # Q and DQ came with opset 10: the form is tested where the node is read
        from onnx import TensorProto, helper, numpy_helper

        from axforge.axcompiler.onnx_graph.views import view
        from axforge.axcompiler.operators.indexing import _slice_parameters
        from axforge.axcompiler.operators.resize import scales_of

        scales = [numpy_helper.from_array(np.array([1, 1, 2.5], np.float32), "s")] if op == "Upsample" else []
        node = helper.make_node(op, ["x", *(t.name for t in scales)], ["y"], **attributes)
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 4, 6)), ("y", None))]
        graph = helper.make_graph([node], "g", infos[:1], infos[1:], scales)
        seen = view(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)])).nodes[0]
        if op == "Slice":
            assert _slice_parameters(seen) == ((0, 0, 3), (1, 1, 1))
        else:
            assert scales_of(seen) == (1.0, 1.0, 2.5)
        return
    one(op, (1, 3, 4), opset=opset, **attributes)


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1, "pads": [1, 0, 1, 0]},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
])  # fmt: skip
def test_average_pool(attributes):
    one("AveragePool", same=False, opset=19, **attributes)


@pytest.mark.parametrize("shape", [(1, 3, 6, 7), (2, 3, 5), (1, 2, 3, 4, 5)])
def test_global_average(shape):
    one("GlobalAveragePool", shape, same=False)


def test_reductions():
    one("ReduceMean", (2, 3, 4), same=False, axes=[-1, 0], keepdims=0)
    one("ReduceMean", (2, 3, 4), opset=18, arguments=[np.array([1], I64)], same=False)
    one("ReduceSum", (2, 3), arguments=[np.array([1], I64)], same=False)
    one("ReduceSum", (2, 3), arguments=[np.array([], I64)], noop_with_empty_axes=1)


@pytest.mark.parametrize("opset, axis", [(17, -1), (17, 1), (11, 1), (11, 2), (13, 0)])
def test_softmax(opset, axis):
    m = Model(opset)
    y = m.node("Softmax", m.qdq(m.input("x", (2, 3, 4)), 0.05, 3), axis=axis)
    graph = assert_within(m.build(m.qdq(y, 1 / 256, -128, out="y")), {"x": RNG.normal(size=(2, 3, 4)).astype(np.float32) * 2})
    assert "Softmax" in kinds(graph)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("a, b", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((1,), (2, 3))])
def test_sums_and_products_broadcast(op, a, b):
    m = Model()
    y = m.node(op, m.qdq(m.input("a", a), 0.02, 3), m.qdq(m.input("b", b), 0.03, -40))
    feeds = {"a": RNG.normal(size=a).astype(np.float32), "b": RNG.normal(size=b).astype(np.float32)}
    assert "Island" not in kinds(assert_within(m.build(m.qdq(y, 0.04, 7, out="y")), feeds))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_constant_operands(op):
    """A float constant gets codes of its own, a quantum of which shows in the result."""
    for left in (False, True) if op != "Div" else (False,):
        m = Model()
        x, c = m.qdq(m.input("x", (1, 3, 4)), 0.02, 3), m.constant(RNG.uniform(0.5, 2, (3, 1)))
        y = m.node(op, *((c, x) if left else (x, c)))
        model = m.build(m.qdq(y, 0.04, 7, out="y"))
        graph = assert_within(model, {"x": RNG.normal(size=(1, 3, 4)).astype(np.float32)}, quanta=2.0)
        assert "Island" not in kinds(graph)


def test_concat_with_other_scales_and_a_constant():
    m = Model()
    parts = [m.qdq(m.input("a", (1, 2, 3)), 0.02, 3), m.qdq(m.input("b", (1, 1, 3)), 0.01, -3), m.constant(RNG.normal(size=(1, 2, 3)))]
    y = m.node("Concat", *parts, axis=1)
    feeds = {"a": RNG.normal(size=(1, 2, 3)).astype(np.float32), "b": RNG.normal(size=(1, 1, 3)).astype(np.float32)}
    graph = assert_within(m.build(m.qdq(y, 0.02, 3, out="y")), feeds)
    assert kinds(graph) == ["Concat"]
    assert [t is None for t in graph.ops[0].tables] == [True, False, True]


def test_split_and_its_parts():
    m = Model(18)
    m.node("Split", m.qdq(m.input("x", (7, 2)), 0.02, 3), n=3, num_outputs=3, axis=0)
    parts = m.nodes[-1].output
    outs = [m.qdq(p, 0.02, 3, out=f"y{i}") for i, p in enumerate(parts)]
    graph = assert_within(m.build(*outs), {"x": RNG.normal(size=(7, 2)).astype(np.float32)})
    assert kinds(graph) == ["Slice"] * 3


@pytest.mark.parametrize("op, attributes", [
    ("DepthToSpace", {"blocksize": 2}), ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}), ("SpaceToDepth", {"blocksize": 2}),
])  # fmt: skip
def test_blocks_and_depth(op, attributes):
    one(op, (1, 8, 4, 6), **attributes)


MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(MODES), st.sampled_from(ROUNDINGS), st.integers(1, 9), st.integers(1, 20), st.booleans(), st.booleans())
def test_resize_picks_onnxruntimes_neighbours(mode, rounding, size, out, by_scale, linear):
    """Each element of x has a value of its own, so that a wrong neighbour is seen; linear is within a quantum of the exact weights."""
    if mode == "half_pixel_symmetric" and rounding in ("floor", "ceil"):
        rounding = "round_prefer_floor"  # the position itself comes out a bit beside an integer, in either direction
    m = Model(19)
    shape = (1, 1, size, size + 1)
    if by_scale:
        scale = np.nextafter(np.float32(out / size), np.float32(99))  # onnx and onnxruntime round a size just below an integer differently
        arguments = ["", m.constant([1, 1, scale, scale])]
    else:
        arguments = ["", "", m.constant([1, 1, out, out + 2], np.int64)]
    x = m.qdq(m.input("x", shape), 1.0, 0)
    kind = "linear" if linear else "nearest"
    y = m.node("Resize", x, *arguments, mode=kind, coordinate_transformation_mode=mode, nearest_mode=rounding)
    model = m.build(m.qdq(y, 1.0, 0, out="y"))
    if 0 in (d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim):
        return  # a scale that leaves nothing
    graph = assert_within(model, {"x": np.arange(size * (size + 1), dtype=np.float32).reshape(shape)}, quanta=1.0 if linear else 0.0)
    assert "Island" not in kinds(graph)


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Exp", "HardSwish", "Elu", "LeakyRelu", "Softplus", "Erf", "Abs", "Neg", "Mish"])
def test_functions_become_tables(op):
    m = Model(18)
    y = m.node(op, m.qdq(m.input("x", (256,)), 0.03, 3))
    graph = assert_within(m.build(m.qdq(y, 0.02, 1, out="y")), {"x": np.linspace(-4, 4, 256, dtype=np.float32)})
    assert kinds(graph) == ["Table"]
