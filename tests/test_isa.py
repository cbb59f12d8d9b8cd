"""The table of instructions is complete, and everything that is derived from it agrees with it."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from axforge.axcompiler import isa
from axforge.axcompiler.instruction import SLOTS, ExecutionUnit
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.shape_patterns import ShapeError, match, parse
from axforge.axruntime.engines.sim.core import executes
from axforge.axruntime.engines.sim.machine import Machine

WORKING = [op for op in Opcode if op.spec.unit is not ExecutionUnit.CONTROL]
DOCS = Path(__file__).resolve().parents[1] / "docs" / "aipu.md"


def test_the_table_in_the_documentation_is_the_printed_one():
    assert isa.markdown() in DOCS.read_text(encoding="utf-8"), "put what `python -m axforge.axcompiler.isa` prints into docs/aipu.md"


def test_every_instruction_of_a_unit_has_a_function_in_the_simulator_and_no_other_has():
    assert Machine
    assert set(executes) == set(WORKING)


@pytest.mark.parametrize("op", WORKING, ids=lambda op: op.name)
def test_the_function_takes_what_the_entry_names(op):
    names = [*op.spec.operands, *op.spec.immediates, *op.spec.flags, *(["finish"] if op.spec.epilogue else [])]
    assert list(inspect.signature(executes[op]).parameters) == ["core", *names]


@pytest.mark.parametrize("op", list(Opcode), ids=lambda op: op.name)
def test_entries_are_well_formed(op):
    spec = op.spec
    assert list(spec.operands) == [slot for slot in SLOTS if slot in spec.operands]
    assert len(spec.immediates) <= 4
    counts = {a.count for o in spec.operands.values() for a in parse(o.shape) if a.count}
    assert counts <= set(spec.immediates)
    assert spec.does
    assert spec.cycles.__doc__


@pytest.mark.parametrize("op", list(Opcode), ids=lambda op: op.name)
def test_immediates_and_flags_survive_a_record(op):
    values = {name: 0.25 if i.float else max(i.least, 1) for name, i in op.spec.immediates.items()} | dict.fromkeys(op.spec.flags, True)
    assert op.spec.decode(*op.spec.encode(values)) == values


def test_an_immediate_that_is_missing_or_unknown_is_an_error():
    with pytest.raises(TypeError, match="immediates are"):
        Opcode.MVM.spec.encode({"axes": 2})
    with pytest.raises(TypeError, match="no immediate 'first'"):
        Opcode.MVM.spec.encode({"axes": 2, "zero": 0, "first": 1})
    assert Opcode.MVM.spec.encode({"axes": 2, "zero": -3}) == ((2, -3, 0, 0), 0)


def test_records_are_read_in_order():
    from axforge.axcompiler.program import INSTRUCTION, NONE

    stream = np.array([(8, 1, 0, 5, 7, 9, NONE, NONE, NONE, (2, -3, 0, 0), b""), (0, 0, 0, 5, *[NONE] * 5, (0,) * 4, b"")], INSTRUCTION)
    first, last = isa.records(stream)
    assert (first.opcode, first.layer, first.operands) == (Opcode.MVM, 5, {"out": 7, "a": 9})
    assert first.values == {"axes": 2, "zero": -3, "accumulate": True}
    assert last.opcode == Opcode.END


@pytest.mark.parametrize(
    "pattern,shape,bound",
    [
        ("H W C", (2, 3, 4), {"H": (2,), "W": (3,), "C": (4,)}),
        ("256", (256,), {}),
        ("S*", (), {"S": ()}),
        ("S* N", (5, 6, 7), {"S": (5, 6), "N": (7,)}),
        ("P{axes} K+", (5, 6, 7), {"P": (5, 6), "K": (7,)}),
        ("A{axes} I B*", (5, 6, 7), {"A": (5, 6), "I": (7,), "B": ()}),
    ],
)
def test_shapes_that_match(pattern, shape, bound):
    found = {}
    match(pattern, shape, {"axes": 2}, found)
    assert found == bound


@pytest.mark.parametrize(
    "pattern,shape",
    [
        ("H W C", (2, 3)),
        ("H W C", (2, 3, 4, 5)),
        ("256", (255,)),
        ("S* N", ()),
        ("P{axes} K+", (5, 6)),
        ("P{axes}", (5,)),
        ("P{axes}", (5, 6, 7)),
        ("A{axes} I B*", (5, 6)),
        ("H H", (2, 3)),
    ],
)
def test_shapes_that_do_not_match(pattern, shape):
    with pytest.raises(ShapeError, match="does not match"):
        match(pattern, shape, {"axes": 2}, {})
    with pytest.raises(ShapeError):
        match(pattern, shape, {"axes": 99}, {"N": (1,)})


@pytest.mark.parametrize("pattern", ["h", "S* T*", "S**", "P{", "P{2}"])
def test_what_is_not_a_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match=r"not an axis|more than one"):
        parse(pattern)
