"""An operator of the fused graph is one class: registered once, complete, with its constants marked by type."""

import msgspec
import numpy as np
import pytest

from axforge.axcompiler import ir
from axforge.axcompiler.ir import fields
from axforge.axcompiler.ir.rules import SpecError
from axforge.axcompiler.registry import Registry

CONV = ir.Conv(name="c", inputs=("x",), outputs=("y",), weight="w", bias="b", multiplier="m", epilogue=ir.Epilogue(zero_point=0, table="t"))


@pytest.mark.parametrize("op", [op for op in ir.OPERATORS.values() if op is not ir.Island], ids=lambda op: op.tag())
@pytest.mark.parametrize("method", ["result_shape", "evaluate"])
def test_every_operator_has_its_rule_and_its_evaluation(op, method):
    assert getattr(op, method) is not getattr(ir.Op, method)


def test_every_operator_is_registered_once_under_its_tag():
    assert all(op.tag() == tag for tag, op in ir.OPERATORS.items())
    with pytest.raises(TypeError, match="two entries"):
        ir.operator(ir.Conv)


def test_constants_are_found_by_their_type():
    assert dict(fields.constants(CONV)) == {
        "w": ir.Constant("int8", 4),
        "b": ir.Constant("int32", 1),
        "m": ir.Constant("float32", 1),
        "t": ir.Constant("int8", 1),
    }
    concat = ir.Concat(name="c", inputs=("x", "y"), outputs=("z",), axis=0, tables=(None, "t"))
    assert dict(fields.constants(concat)) == {"t": ir.Constant("int8", 1)}
    assert list(fields.constants(ir.Reshape(name="r", inputs=("x",), outputs=("y",)))) == []


def test_constants_are_renamed_wherever_they_are():
    names = {n: n.upper() for n in "wbmt"}
    renamed = fields.renamed(CONV, names)
    assert {n for n, _ in fields.constants(renamed)} == set("WBMT")
    assert renamed.name == "c"
    assert renamed.inputs == ("x",)


def test_no_field_that_names_a_constant_is_left_unmarked():
    """A string field of an operator names a constant, the operator itself, or an island."""
    for op in ir.OPERATORS.values():
        plain = {f.name for f in msgspec.structs.fields(op) if f.type is str}
        marked = {f.name for f in msgspec.structs.fields(op) if fields._marker(f.type)}
        assert plain - {"name", "island", "reason"} <= marked, op


def test_a_constant_of_another_type_is_refused():
    q = ir.Quant(1.0, 0)
    graph = ir.Graph("g", {n: ir.Tensor((2,), quant=q) for n in "xy"}, (), ("x",), ("y",), {"t": np.zeros(256, np.int32)})
    table = ir.Table(name="t", inputs=("x",), outputs=("y",), table="t")
    with pytest.raises(SpecError, match="constant 't' is int32"):
        table.check(graph)
    with pytest.raises(SpecError, match="has 2 inputs"):
        msgspec.structs.replace(table, inputs=("x", "x")).check(graph)


def test_a_registry_refuses_a_second_entry():
    registry: Registry[str, int] = Registry("a number")
    registry("one")(1)
    with pytest.raises(TypeError, match="'one' has two entries as a number"):
        registry("one")(2)
    assert dict(registry) == {"one": 1}


@pytest.mark.parametrize(
    ("op", "shapes", "rule"),
    [
        (ir.ReduceMax(name="o", inputs=("x",), outputs=("y",), axes=(1,), keepdims=False), [(3, 0)], "largest of no elements"),
        (
            ir.MatMul(name="o", inputs=("x", "x"), outputs=("y",), multiplier=1.0, epilogue=ir.Epilogue(0)),
            [(2, 0), (0, 2)],
            "sums 0 products",
        ),
        (ir.Slice(name="o", inputs=("x",), outputs=("y",), starts=(1,), steps=(1,)), [(0,)], "outside the operand"),
        (ir.Slice(name="o", inputs=("x",), outputs=("y",), starts=(4,), steps=(1,)), [(3,)], "outside the operand"),
    ],
)
def test_an_operator_of_no_elements_computes_nothing_of_them(op, shapes, rule):
    """An engine would index before the first element, or divide by a size of 0."""
    graph = ir.Graph("g", {"y": ir.Tensor((0,))}, (), (), (), {})
    with pytest.raises(SpecError, match=rule):
        op.result_shape(graph, [ir.Tensor(shape, quant=ir.Quant(1.0, 0)) for shape in shapes])
