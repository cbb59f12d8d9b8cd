"""A graph survives its file, equal graphs give equal bytes, and an unsound file is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from axforge.axcompiler import container, graphfile, ir, spec
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.reference import Reference


def small_graph() -> Graph:
    """x -> 3x3 convolution -> + x."""
    q = Quant(0.5, 3)
    shape = (1, 4, 6, 5)
    rng = np.random.default_rng(0)
    return Graph(
        name="small",
        tensors={"x": Tensor(shape, quant=q), "h": Tensor(shape, quant=Quant(0.25, -1)), "y": Tensor(shape, quant=q)},
        ops=(
            ir.Conv(
                name="conv",
                inputs=("x",),
                outputs=("h",),
                weight="w",
                bias="b",
                multiplier="m",
                pads=(1, 1, 1, 1),
                epilogue=Epilogue(-1, -1),
            ),
            ir.Add(name="add", inputs=("h", "x"), outputs=("y",), multipliers=(0.5, 1.0), epilogue=Epilogue(3)),
        ),
        inputs=("x",),
        outputs=("y",),
        constants={
            "w": rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
            "b": rng.integers(-999, 999, 4).astype(np.int32),
            "m": np.full(4, 1e-3, np.float32),
        },
    )


def test_round_trip(tmp_path):
    graph = small_graph()
    graphfile.save(graph, tmp_path / "g")
    back = graphfile.load(tmp_path / "g")
    assert (back.ops, dict(back.tensors), back.inputs, back.outputs) == (graph.ops, dict(graph.tensors), graph.inputs, graph.outputs)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 6, 5)).astype(np.float32)}
    np.testing.assert_array_equal(Reference(back).run(feeds)["y"], Reference(graph).run(feeds)["y"])
    graphfile.save(back, tmp_path / "h")
    assert (tmp_path / "g").read_bytes() == (tmp_path / "h").read_bytes()


def with_op(graph: Graph, i: int, **changes) -> Graph:
    ops = list(graph.ops)
    ops[i] = type(ops[i])(**({f: getattr(ops[i], f) for f in ops[i].__struct_fields__} | changes))
    return replace(graph, ops=tuple(ops))


def with_transposed(graph: Graph, **changes) -> Graph:
    fields = {f: getattr(graph.ops[0], f) for f in graph.ops[0].__struct_fields__}
    return replace(graph, ops=(ir.ConvTranspose(**fields | changes), *graph.ops[1:]))


@pytest.mark.parametrize(
    "break_it,rule",
    [
        (lambda g: with_op(g, 0, groups=3), "channels do not match"),
        (lambda g: with_op(g, 0, strides=(0, 1)), "below 1"),
        (lambda g: with_op(g, 0, pads=(1, 1, 1, -1)), "negative"),
        (lambda g: with_op(g, 0, strides=(2, 2)), "should have"),
        (lambda g: with_op(g, 0, weight="nowhere"), "constant 'nowhere'"),
        (lambda g: with_op(g, 1, inputs=("h", "later")), "not made before"),
        (lambda g: with_op(g, 1, multipliers=(float("inf"), 1.0)), "not a float32"),
        (lambda g: with_op(g, 1, epilogue=Epilogue(4)), "zero point differs"),
        (lambda g: replace(g, outputs=("z",)), "is not a tensor"),
        (lambda g: replace(g, tensors={**g.tensors, "z": Tensor((1 << 20, 1 << 20))}), "more elements"),
        (lambda g: replace(g, tensors={**g.tensors, "z": Tensor((0, 1 << 70))}), "has shape"),
        (lambda g: replace(g, tensors={**g.tensors, "z": Tensor((4,), "object")}), "has type 'object'"),
        (lambda g: with_op(g, 0, pads=(1 << 20, 1 << 20, 1, 1), strides=(1 << 20, 1 << 20)), "an intermediate of shape"),
        (lambda g: with_transposed(g, pads=(1 << 20, 1 << 20, 1, 1), output_padding=(1 << 20, 1 << 20)), "an intermediate of shape"),
        (lambda g: replace(g, constants={**g.constants, "m": np.full(4, np.nan, np.float32)}), "not finite"),
        (lambda g: replace(g, tensors={**g.tensors, "h": Tensor((1, 4, 6, 5), quant=Quant(-1.0, 0))}), "scale -1.0"),
    ],
)
def test_each_rule_is_kept(break_it, rule, tmp_path):
    spec.check(small_graph())
    broken = break_it(small_graph())
    with pytest.raises(spec.SpecError, match=rule):
        spec.check(broken)
    (tmp_path / "g").write_bytes(container.encode(graphfile.MAGIC, 1, graphfile.to_sections(broken)))
    with pytest.raises(FormatError, match=r"unsound|understood"):
        graphfile.load(tmp_path / "g")


def test_a_header_of_another_shape_is_refused(tmp_path):
    sections = graphfile.to_sections(small_graph())
    for damaged in (b"[]", b'{"ir_version": 1}', sections["graph"].replace(b'"conv"', b'"exec"', 1), b"\xff"):
        (tmp_path / "g").write_bytes(container.encode(graphfile.MAGIC, 1, {**sections, "graph": damaged}))
        with pytest.raises(FormatError, match="cannot be understood"):
            graphfile.load(tmp_path / "g")


@pytest.mark.parametrize("shape", [[1 << 62, 0], [10**30, 0], [4] + [1] * 100, [-1, -4]])
def test_a_constant_of_a_shape_that_numpy_cannot_make_is_refused(shape):
    sections = graphfile.to_sections(small_graph())
    header = json.loads(sections["graph"])
    header["constants"]["m"] = ["float32", shape]
    with pytest.raises(FormatError, match="impossible type"):
        graphfile.from_sections({**sections, "graph": json.dumps(header).encode()}, where="g")
