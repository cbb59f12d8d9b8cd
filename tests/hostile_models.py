"""ONNX models that nobody would export: each is damaged, contradictory or enormous in one way of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper
from onnx_models import model, small_net

from axforge.axcompiler.placement.decision import PLACES

Make = Callable[[], onnx.ModelProto]

#: by name; every function below that is decorated is one, and `variants` registers several at once
HOSTILE: dict[str, Make] = {}


def hostile(make: Make) -> Make:
    HOSTILE[make.__name__] = make
    return make


def variants(name: str, values: Sequence[Any], make: Callable[[Any], onnx.ModelProto]) -> None:
    for value in values:
        HOSTILE[f"{name} {value!r}"[:70]] = lambda value=value: make(value)


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), list(outputs), **attributes)


def conv(weight: Any = None, **attributes: Any) -> onnx.ModelProto:
    """One convolution of an image 1x3x8x8."""
    weight = np.ones((4, 3, 3, 3), np.float32) if weight is None else weight
    return model([node("Conv", ["x", "w"], ["y"], **attributes)], {"x": [1, 3, 8, 8]}, ["y"], {"w": weight})


def edited(edit: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = small_net()
    edit(proto)
    return proto


def unary(op_type: str, shape: Sequence[int] = (1, 3, 8, 8), constants: dict[str, Any] | None = None, **attributes: Any) -> onnx.ModelProto:
    """A convolution, then one operator on its result and on the constants."""
    w = np.full((4, shape[1], 1, 1), 0.5, np.float32)
    nodes = [node("Conv", ["x", "w"], ["c"]), node(op_type, ["c", *(constants or {})], ["y"], **attributes)]
    return model(nodes, {"x": shape}, ["y"], {"w": w} | (constants or {}))


def first_weight(**changes: Any) -> onnx.ModelProto:
    """A small network of which one weight says something else of itself than its bytes do."""
    proto = small_net()
    weight = proto.graph.initializer[1]
    for name, value in changes.items():
        if name == "dims":
            del weight.dims[:]
            weight.dims.extend(value)
        else:
            setattr(weight, name, value)
    return proto


# ---------------------------------------------------------------- tensors

variants(
    "dims of a weight",
    [[-1, 3, 3, 3], [8, 3, 3], [2**40, 2**40], [2**62, 4], [0, 3, 3, 3], [8, 3, 3, 4], [1] * 64],
    lambda d: first_weight(dims=d),
)
variants("type of a weight", [0, 8, 9, 14, 16, 17, 22, 77, -3], lambda t: first_weight(data_type=t))
variants("bytes of a weight", [b"", b"abc", bytes(7), bytes(4 * 8 * 3 * 3 * 3 + 4)], lambda raw: first_weight(raw_data=raw))
variants(
    "numbers of a weight",
    [0, 1, 17],
    lambda n: edited(
        lambda p: p.graph.initializer[1].CopyFrom(
            TensorProto(name=p.graph.initializer[1].name, data_type=1, dims=[8, 3, 3, 3], float_data=[0.5] * n)
        )
    ),
)
variants("value of all weights", [np.nan, np.inf, -np.inf, 3e38, 1e-45], lambda v: conv(np.full((4, 3, 3, 3), v, np.float32)))
variants("weights of type", [np.float64, np.float16, np.int8, np.int64, np.bool_, np.complex64], lambda t: conv(np.ones((4, 3, 3, 3), t)))
variants(
    "shape of a weight", [(4, 3, 3), (4, 2, 3, 3), (0, 3, 3, 3), (4, 3, 0, 0), (), (4, 3, 99, 99)], lambda s: conv(np.ones(s, np.float32))
)


@hostile
def a_weight_without_bytes_of_64_GiB() -> onnx.ModelProto:
    return edited(lambda p: p.graph.initializer.append(TensorProto(name="w1b", data_type=1, dims=[1 << 34])))


@hostile
def a_sparse_weight_with_an_index_outside() -> onnx.ModelProto:
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    sparse = helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [10**12]), [4, 3, 3, 3])
    proto = conv()
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(sparse)
    return proto


@hostile
def a_string_as_a_weight() -> onnx.ModelProto:
    return edited(lambda p: p.graph.initializer[1].CopyFrom(helper.make_tensor("w1", TensorProto.STRING, [1], [b"x"])))


# ---------------------------------------------------------------- inputs


def with_input(dims: Sequence[int], elem_type: int = 1) -> onnx.ModelProto:
    return edited(lambda p: p.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", elem_type, list(dims))))


variants(
    "input of shape",
    [
        [2**62],
        [1, 3, -5, 16],
        [0, 3, 16, 16],
        [1, 3, 0, 0],
        [1, 3, 2**40, 16],
        [2**31, 3, 2**31, 16],
        [1, 3, 2**62, 2**62],
        [],
        [16],
        [1] * 40,
    ],
    with_input,
)
variants("input of shape without end", [[1, 3, 60000, 60000], [1 << 20, 3, 512, 512]], with_input)
variants("input of type", [0, 7, 8, 9, 10, 11, 16, 23, 99], lambda t: with_input([1, 3, 16, 16], t))


@hostile
def an_input_that_is_a_sequence() -> onnx.ModelProto:
    kind = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
    return edited(lambda p: p.graph.input[0].CopyFrom(kind))


@hostile
def no_input() -> onnx.ModelProto:
    return model([node("Relu", ["w"], ["y"])], {}, ["y"], {"w": np.ones(4, np.float32)})


@hostile
def no_output() -> onnx.ModelProto:
    return edited(lambda p: p.graph.ClearField("output"))


@hostile
def no_node() -> onnx.ModelProto:
    return edited(lambda p: p.graph.ClearField("node"))


@hostile
def an_input_is_the_output() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["z"])], {"x": [1, 3]}, ["x"])


# ---------------------------------------------------------------- attributes

variants("strides", [[0, 0], [-1, 1], [2**62, 1], [1], [1, 1, 1], [2**31, 2**31], [2**31 - 1, 1]], lambda v: conv(strides=v))
variants("dilations", [[0, 0], [-1, -1], [2**40, 1], [2**31 - 1, 1]], lambda v: conv(dilations=v))
variants("pads", [[-9] * 4, [2**40] * 4, [1], [2**62, 0, 2**62, 0], [1 << 20] * 4, [1 << 30] * 4], lambda v: conv(pads=v))
variants("group", [0, -1, 3, 7, 2**62], lambda v: conv(group=v))
variants("kernel_shape", [[0, 0], [99, 99], [2**40, 3], [3]], lambda v: conv(kernel_shape=v))
variants("auto_pad", ["SAME_UPPER", "VALID", "NONSENSE", ""], lambda v: conv(auto_pad=v))
variants("pool window", [[0, 0], [2**40, 1], [3]], lambda v: unary("MaxPool", kernel_shape=v))
variants("axis of Softmax", [99, -99, 2**62], lambda v: unary("Softmax", axis=v))
variants("perm of Transpose", [[0, 0, 1, 2], [0, 1, 2], [3, 2, 1, 99], [-1, 0, 1, 2]], lambda v: unary("Transpose", perm=v))
variants(
    "target of Reshape",
    [[0, 0, 0, 0, 0], [-1, -1], [7, 7], [2**62, 4], [-5, 4], []],
    lambda v: unary("Reshape", constants={"s": np.array(v, np.int64)}),
)
variants(
    "repeats of Tile", [[2**40, 1, 1, 1], [-1, 1, 1, 1], [0, 1, 1, 1], [1]], lambda v: unary("Tile", constants={"r": np.array(v, np.int64)})
)
variants("target of Expand", [[2**40, 4, 8, 8], [-1], [3, 3, 3]], lambda v: unary("Expand", constants={"s": np.array(v, np.int64)}))
variants("indices of Gather", [[99], [-99], [2**62], []], lambda v: unary("Gather", constants={"i": np.array(v, np.int64)}, axis=1))
variants("epsilon", [-1.0, np.nan, np.inf, 0.0], lambda v: unary("LayerNormalization", constants={"g": np.ones(8, np.float32)}, epsilon=v))
variants("alpha of LeakyRelu", [np.nan, np.inf, -1e38], lambda v: unary("LeakyRelu", alpha=v))
variants(
    "bounds of Clip",
    [(1, -1), (np.nan, 1), (-np.inf, np.inf)],
    lambda v: unary("Clip", constants={"lo": np.float32(v[0]), "hi": np.float32(v[1])}),
)
variants(
    "scales of Resize",
    [[0.0] * 4, [-1.0] * 4, [np.nan] * 4, [1, 1, 1e30, 1e30], [1, 1, 1e-30, 1]],
    lambda v: model([node("Resize", ["x", "", "s"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"], {"s": np.array(v, np.float32)}),
)
variants(
    "slices",
    [(0, 99, 0), (2**62, -(2**62), -1), (5, 3, 1), (-(2**63), 2**63 - 1, 2**62)],
    lambda v: unary(
        "Slice",
        constants={n: np.array([i], np.int64) for n, i in zip(("b", "e"), v, strict=False)}
        | {"a": np.array([2], np.int64), "t": np.array([v[2]], np.int64)},
    ),
)
variants("pads of Pad", [[2**40] * 8, [-99] * 8, [1]], lambda v: unary("Pad", constants={"p": np.array(v, np.int64)}))
variants(
    "split",
    [[9, 9], [-1, 5], []],
    lambda v: model([node("Split", ["x", "s"], ["a", "b"], axis=1)], {"x": [1, 4, 8, 8]}, ["a", "b"], {"s": np.array(v, np.int64)}),
)
variants(
    "depth of OneHot-like range",
    [0, -1, 10**12],
    lambda v: model(
        [node("Range", ["a", "b", "c"], ["r"]), node("Cast", ["r"], ["f"], to=1), node("Add", ["x", "f"], ["y"])],
        {"x": [1]},
        ["y"],
        {"a": np.int64(0), "b": np.int64(v), "c": np.int64(1)},
    ),
)
variants(
    "a constant filled to",
    [[2**40], [1 << 17, 1 << 17], [-3], [2**62, 2**62]],
    lambda v: model(
        [node("ConstantOfShape", ["s"], ["f"]), node("Add", ["x", "f"], ["y"])], {"x": [1]}, ["y"], {"s": np.array(v, np.int64)}
    ),
)


@hostile
def an_attribute_of_another_type() -> onnx.ModelProto:
    return edited(lambda p: p.graph.node[1].attribute[0].CopyFrom(helper.make_attribute("pads", "1111")))


@hostile
def an_attribute_twice() -> onnx.ModelProto:
    return edited(lambda p: p.graph.node[1].attribute.append(helper.make_attribute("pads", [9, 9, 9, 9])))


@hostile
def an_attribute_without_a_type() -> onnx.ModelProto:
    return edited(lambda p: p.graph.node[1].attribute.append(AttributeProto(name="group")))


@hostile
def an_unknown_attribute() -> onnx.ModelProto:
    return edited(lambda p: p.graph.node[1].attribute.append(helper.make_attribute("colour", "red")))


@hostile
def a_constant_without_a_value() -> onnx.ModelProto:
    return model([node("Constant", [], ["c"]), node("Add", ["x", "c"], ["y"])], {"x": [1]}, ["y"])


@hostile
def a_constant_with_two_values() -> onnx.ModelProto:
    return model([node("Constant", [], ["c"], value_float=1.0, value_int=3), node("Add", ["x", "c"], ["y"])], {"x": [1]}, ["y"])


@hostile
def a_missing_attribute() -> onnx.ModelProto:
    return edited(lambda p: [n.ClearField("attribute") for n in p.graph.node])


# ---------------------------------------------------------------- graphs


@hostile
def a_cycle() -> onnx.ModelProto:
    return model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], {"x": [4]}, ["b"])


@hostile
def a_node_that_reads_itself() -> onnx.ModelProto:
    return model([node("Add", ["x", "y"], ["y"])], {"x": [4]}, ["y"])


@hostile
def two_nodes_make_one_tensor() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], {"x": [4]}, ["y"])


@hostile
def two_nodes_have_one_name() -> onnx.ModelProto:
    return edited(lambda p: [setattr(n, "name", "same") for n in p.graph.node])


@hostile
def two_inputs_have_one_name() -> onnx.ModelProto:
    return edited(lambda p: p.graph.input.append(p.graph.input[0]))


@hostile
def two_outputs_have_one_name() -> onnx.ModelProto:
    return edited(lambda p: p.graph.output.append(p.graph.output[0]))


@hostile
def two_initializers_have_one_name() -> onnx.ModelProto:
    return edited(lambda p: p.graph.initializer.append(p.graph.initializer[1]))


@hostile
def an_initializer_has_the_name_of_a_result() -> onnx.ModelProto:
    return edited(lambda p: setattr(p.graph.initializer[0], "name", "c1"))


variants("too many inputs of", ["Relu", "Conv", "MaxPool"], lambda op: model([node(op, ["x"] * 9, ["y"])], {"x": [1, 3, 8, 8]}, ["y"]))
variants("no inputs of", ["Relu", "Conv", "Concat", "Add", "Gemm"], lambda op: model([node(op, [], ["y"])], {"x": [1, 3, 8, 8]}, ["y"]))
variants("only empty names of", ["Relu", "Add", "Concat"], lambda op: model([node(op, ["", ""], ["y"])], {"x": [1, 3, 8, 8]}, ["y"]))
variants("no outputs of", ["Relu", "Conv"], lambda op: model([node(op, ["x"], [])], {"x": [1, 3, 8, 8]}, ["x"]))
variants(
    "names", ["", "\x00", "a" * 100_000, "../../etc/passwd", "\u202e", "%s%n"], lambda n: model([node("Relu", ["x"], [n])], {"x": [4]}, [n])
)
variants("ranks", [0, 1, 2, 6, 9], lambda r: model([node("GlobalAveragePool", ["x"], ["y"])], {"x": [2] * r}, ["y"]))
variants(
    "an operator of",
    [("", "Nothing"), ("mine", "Relu"), ("ai.onnx.ml", "TreeEnsemble"), ("", "")],
    lambda d: model([onnx.NodeProto(op_type=d[1], domain=d[0], input=["x"], output=["y"])], {"x": [4]}, ["y"]),
)
variants("opset", [-1, 0, 8, 2**62], lambda v: edited(lambda p: setattr(p.opset_import[0], "version", v)))
variants("ir_version", [-1, 0, 1, 2**62], lambda v: edited(lambda p: setattr(p, "ir_version", v)))


@hostile
def two_opsets_of_one_domain() -> onnx.ModelProto:
    return edited(lambda p: p.opset_import.append(helper.make_opsetid("", 11)))


def nested(depth: int) -> onnx.ModelProto:
    """Branches in branches."""
    graph = helper.make_graph([node("Relu", ["x"], ["o0"])], "g", [], [helper.make_tensor_value_info("o0", 1, [4])])
    for i in range(1, depth):
        inner = (
            node("If", ["c"], [f"o{i}"], then_branch=graph, else_branch=graph)
            if i == 1
            else node("If", ["c"], [f"o{i}"], then_branch=graph)
        )
        graph = helper.make_graph([inner], "g", [], [helper.make_tensor_value_info(f"o{i}", 1, [4])])
    last = node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
    return model(
        [node("Greater", ["s", "zero"], ["c"]), node("ReduceSum", ["x"], ["s"], keepdims=0), last],
        {"x": [4]},
        ["y"],
        {"zero": np.float32(0)},
    )


variants("branches nested", [3, 12, 25], nested)


def calls(depth: int, each: int) -> onnx.ModelProto:
    """Functions that call functions: each^depth nodes when they are written out."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    functions = [helper.make_function("mine", "F0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets)]
    for i in range(1, depth):
        body = [node(f"F{i - 1}", [f"t{k}" if k else "a"], [f"t{k + 1}" if k + 1 < each else "b"], domain="mine") for k in range(each)]
        functions.append(helper.make_function("mine", f"F{i}", ["a"], ["b"], body, opsets))
    proto = model([node(f"F{depth - 1}", ["x"], ["y"], domain="mine")], {"x": [4]}, ["y"])
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    return proto


variants("functions that call functions", [(3, 2), (30, 10), (200, 1), (5000, 1)], lambda v: calls(*v))


@hostile
def a_function_that_calls_itself() -> onnx.ModelProto:
    proto = calls(2, 2)
    proto.functions[0].node[0].CopyFrom(node("F1", ["a"], ["b"], domain="mine"))
    return proto


@hostile
def a_function_that_lacks_its_output() -> onnx.ModelProto:
    proto = calls(2, 2)
    proto.functions[0].node[0].output[0] = "elsewhere"
    return proto


def looped(trips: int) -> onnx.ModelProto:
    """A loop of so many rounds, on the CPU."""
    body = helper.make_graph(
        [node("Relu", ["a"], ["b"]), node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("go", 9, []),
            helper.make_tensor_value_info("a", 1, [4]),
        ],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("b", 1, [4])],
    )
    return model(
        [node("Loop", ["n", "go", "x"], ["l"], body=body), node("Reshape", ["l", "four"], ["y"])],
        {"x": [4]},
        ["y"],
        {"n": np.int64(trips), "go": np.bool_(True), "four": np.array([4], np.int64)},
    )


variants("rounds of a loop", [0, -1, 3], looped)


def quantized(scale: Any, zero: Any) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]), node("Relu", ["d"], ["y"])]
    return model(nodes, {"x": [1, 3, 4, 4]}, ["y"], {"s": np.asarray(scale, np.float32), "z": np.asarray(zero)})


variants("scale", [0.0, -1.0, np.nan, np.inf, 1e-45, [1.0] * 3, [1.0] * 7, []], lambda s: quantized(s, np.int8(0)))
variants("zero point", [np.uint8(3), np.int32(7), np.float32(1), np.int16(3), np.zeros(5, np.int8)], lambda z: quantized(1.0, z))


@hostile
def placed_by_metadata_that_is_no_json() -> onnx.ModelProto:
    return edited(lambda p: helper.set_model_props(p, {PLACES: "[" * 100_000}))
