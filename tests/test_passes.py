"""One type of pass and one runner: what is required and promised is checked, failures carry the pass's name, changes are reported."""

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import pytest

from axforge.axcompiler import ir, spec
from axforge.axcompiler.check import passes as check
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph, Quant, Tensor
from axforge.axcompiler.optimize.passes import PASSES
from axforge.axcompiler.optimize.passes.drop_identities import DropIdentities
from axforge.axcompiler.optimize.passes.join_shapes import JoinShapes
from axforge.axcompiler.passes import Pass, PassError, PassResult, Property, Runner, ordered

looked_at: list[int] = []


def positive(number: int) -> None:
    looked_at.append(number)
    if number <= 0:
        raise ValueError(f"{number} is below 1")


POSITIVE = Property("positive", positive)


@dataclass(frozen=True)
class AddNumber(Pass[int]):
    """Add a number.

    x      becomes      x + number
    """

    number: int = 0
    requires: ClassVar = (POSITIVE,)
    ensures: ClassVar = (POSITIVE,)

    def apply(self, ir: int) -> PassResult[int]:
        return PassResult(ir + self.number, ("added",) if self.number else ())

    @staticmethod
    def text(ir: int) -> str:
        return str(ir)


class Fails(AddNumber):
    """Fail."""

    def apply(self, ir: int) -> PassResult[int]:
        raise AxforgeError("no such number") if ir == 7 else IndexError("out of range")


class Lies(AddNumber):
    """Change something and say nothing."""

    def apply(self, ir: int) -> PassResult[int]:
        return PassResult(ir + 1000)


@pytest.fixture(autouse=True)
def forget() -> None:
    looked_at.clear()


def module(*passes: type[Pass]) -> ModuleType:
    """A module that defines these passes."""
    made = ModuleType("some.passes.module")
    for one in passes:
        setattr(made, one.__name__, type(one.__name__, (one,), {"__module__": made.__name__}))
    return made


class Early(AddNumber):
    """Run first, and again at the end."""

    at: ClassVar = (10, 90)


class Between(AddNumber):
    """Run between."""

    at: ClassVar = (50,)


def test_passes_run_in_the_order_of_their_places_and_one_may_have_several() -> None:
    assert [one.name for one in ordered([module(Between), module(Early)])] == ["early", "between", "early"]


def test_a_pass_needs_a_place_of_its_own() -> None:
    with pytest.raises(TypeError, match="pass AddNumber has no place"):
        ordered([module(AddNumber)])
    with pytest.raises(TypeError, match="passes Early and Late are both at place 90"):
        ordered([module(Early), module(type("Late", (AddNumber,), {"at": (90,)}))])


def test_what_a_module_only_imports_is_not_a_pass_of_it() -> None:
    made = module(Early)
    made.Between = Between  # type: ignore[attr-defined]
    assert [one.name for one in ordered([made])] == ["early", "early"]


def test_the_groups_of_check_follow_one_another() -> None:
    assert (*check.ON_MODEL, *check.BEFORE_SHAPES, *check.REPEATED) == check.PASSES


def test_a_property_is_checked_again_only_after_a_change() -> None:
    assert Runner(5).run([AddNumber(), AddNumber(2), AddNumber()]) == 7
    assert looked_at == [5, 7]


def test_what_a_pass_needs_and_promises_is_checked() -> None:
    with pytest.raises(PassError, match="before pass 'add-number', the model is not positive: 0 is below 1"):
        Runner(0).run([AddNumber(1)])
    with pytest.raises(PassError, match="after pass 'add-number', the model is not positive"):
        Runner(1).run([AddNumber(-5)])


def test_a_failure_carries_the_name_of_the_pass() -> None:
    with pytest.raises(PassError, match="pass 'fails' failed: out of range"):
        Runner(1).run([Fails()])
    with pytest.raises(AxforgeError) as caught:
        Runner(7).run([Fails()])
    assert caught.value.__notes__ == ["in pass 'fails'"]


def test_a_pass_that_reports_no_change_gives_the_same_object() -> None:
    with pytest.raises(PassError, match="'lies' reports no change"):
        Runner(1).run([Lies()])


def test_the_observer_sees_each_pass_with_its_result() -> None:
    seen: list[tuple[str, int, tuple[str, ...]]] = []
    Runner(1, lambda one, result: seen.append((one.name, result.ir, result.changed))).run([AddNumber(2), AddNumber()])
    assert seen == [("add-number", 3, ("added",)), ("add-number", 3, ())]


def graph() -> Graph:
    q = Quant(0.5, 3)
    ops = tuple(ir.Reshape(name=n, inputs=(a,), outputs=(b,)) for n, a, b in (("a", "x", "u"), ("b", "u", "v"), ("c", "v", "y")))
    shapes = {"x": (2, 6), "u": (2, 6), "v": (3, 4), "y": (12,)}
    return Graph("g", {n: Tensor(s, quant=q) for n, s in shapes.items()}, ops, ("x",), ("y",))


def test_a_pass_of_the_fused_graph_reports_what_it_changed() -> None:
    notes: list[tuple[str, ...]] = []
    after = Runner(graph(), lambda one, result: notes.append(result.changed)).run([DropIdentities(), JoinShapes()])
    spec.check(after)
    assert notes == [
        ("removed Reshape 'a'", "changed Reshape 'b'", "left out tensors and constants: 1"),
        ("removed Reshape 'b'", "changed Reshape 'c'", "left out tensors and constants: 1"),
    ]
    assert DropIdentities().apply(after).ir is after


def test_a_broken_graph_is_found_before_the_pass_runs() -> None:
    broken = Graph("g", {"x": Tensor((1,), quant=Quant(1.0, 0))}, (), ("x",), ("nothing",))
    with pytest.raises(PassError, match="before pass 'join-shapes', the model is not well-formed"):
        Runner(broken).run([JoinShapes()])


@pytest.mark.parametrize("one", {type(p): p for p in PASSES}.values(), ids=lambda p: p.name)
def test_every_pass_of_optimize_shows_its_rewrite(one: Pass) -> None:
    assert one.summary.endswith(".")
    assert "becomes" in (type(one).__doc__ or "")


def test_a_graph_as_text() -> None:
    assert JoinShapes.text(graph()) == (
        "graph g\n"
        "  input x: int8[2, 6] scale 0.5 zero 3\n"
        "  u: int8[2, 6] scale 0.5 zero 3 = Reshape(x)  # a\n"
        "  v: int8[3, 4] scale 0.5 zero 3 = Reshape(u)  # b\n"
        "  y: int8[12] scale 0.5 zero 3 = Reshape(v)  # c\n"
        "  output y\n"
    )
