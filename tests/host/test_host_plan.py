"""Plans: every operator has its steps, parameters cannot be forgotten, and a wrong layout ends in a sentence."""

import numpy as np
import pytest
from host_support import conv_graph
from msgspec.structs import fields, replace

from axforge.axcompiler import ir
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.registry import load_modules
from axforge.axruntime.engines.host.codegen import families, kernels
from axforge.axruntime.engines.host.codegen.features import PATHS
from axforge.axruntime.engines.host.codegen.kernels.border import BorderParams, BorderSpec
from axforge.axruntime.engines.host.codegen.params import Params, Ref, Slot, TableRef, kernel_of, leaves, mapped, packed
from axforge.axruntime.engines.host.emission import layout, operators
from axforge.axruntime.engines.host.emission.emitter import emits
from axforge.axruntime.engines.host.planning import plan

load_modules(kernels.__name__)


def border(**changes):
    values = {f.name: 1 for f in fields(BorderParams)} | {"spec": BorderSpec(), "y": Ref("t", 5)}
    return BorderParams(**values | changes)


def test_every_operator_but_islands_has_an_emission():
    assert operators
    assert set(emits) == set(ir.OPERATORS.values()) - {ir.Island}


def test_an_operator_cannot_have_two_emissions():
    with pytest.raises(TypeError, match="two entries"):
        emits(ir.Conv)(lambda m, op: None)


def test_every_family_of_parameters_has_a_code_generator_and_a_name_of_its_own():
    def classes(base):
        return {c for sub in base.__subclasses__() for c in (sub, *classes(sub))}

    assert set(families.kernel) == classes(Params)
    names = [params.family for params in families.kernel]
    assert len(set(names)) == len(names)
    with pytest.raises(TypeError, match="two entries"):
        families.kernel(BorderParams)(lambda f, p: None)


def test_a_parameter_can_neither_be_forgotten_nor_invented():
    values = {f.name: 1 for f in fields(BorderParams)} | {"spec": BorderSpec(), "y": Ref("t", 5)}
    del values["step"]
    with pytest.raises(TypeError, match="step"):
        BorderParams(**values)
    with pytest.raises(TypeError, match="stride"):
        border(stride=1)
    with pytest.raises(TypeError, match="cannot be a parameter"):
        kernel_of(border(step="1"))


def test_the_block_and_the_kernel_follow_from_the_parameters():
    params = border(images=7)
    assert packed(leaves(params), {"t": (3, 16)}) == [3, 21, 7, 1, 1, 1, 1, 1, 1, 1, 1]
    assert list(leaves(kernel_of(params))) == [Slot.ADDRESS] + [Slot.INTEGER] * 9
    assert kernel_of(params) == kernel_of(border(images=8))
    assert kernel_of(params) != kernel_of(border(images=None))


@pytest.mark.parametrize("isa", PATHS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: replace(root, size=root.size - 1), "reads bytes|writes bytes"),
        (lambda root: replace(root, view=replace(root.view, offset=root.view.offset - 1)), "bytes -1 to"),
        (lambda root: replace(root, view=replace(root.view, offset=root.view.offset + 64)), "bytes"),
        (lambda root: replace(root, view=replace(root.view, strides=tuple(2 * s for s in root.view.strides))), "bytes"),
    ],
    ids=["too small", "too early", "too late", "too far apart"],
)
@pytest.mark.parametrize("groups", [1, 24], ids=["dense", "depthwise"])
def test_a_wrong_layout_is_an_internal_error(monkeypatch, isa, change, says, groups):
    def wrong(graph):
        found = layout.layout(graph)
        found.roots["x"] = change(found.roots["x"])
        found.views["x"] = found.roots["x"].view
        return found

    graph = conv_graph(24, 24, 9, 9, 3, 1, 1, groups=groups)
    plan.make(graph, isa)
    monkeypatch.setattr(plan, "layout", wrong)
    with pytest.raises(AxforgeError, match=f"internal error: the plan of step .*({says})"):
        plan.make(graph, isa)


def shifted(value):
    """Parameters whose addresses are far outside every buffer."""
    if isinstance(value, TableRef):
        return replace(value, offset=value.offset + 2**40)
    return replace(value, offset=value.offset - 2**40) if isinstance(value, Ref) else value


@pytest.mark.parametrize("isa", PATHS, ids=lambda isa: isa.name)
def test_every_address_of_every_step_is_checked(isa, host_graphs):
    """One address moved at a time, in steps of all kernel families."""
    seen = set()
    for graph in host_graphs:
        made, roots, constants = planned(graph, isa)
        for step in made:
            count = sum(isinstance(leaf, Ref) for leaf in leaves(step.params))
            for wanted in range(count) if type(step.params) not in seen else ():
                turn = iter(range(count))
                moved = mapped(step.params, lambda v, turn=turn, w=wanted: shifted(v) if isinstance(v, Ref) and next(turn) == w else v)
                with pytest.raises(AxforgeError, match="internal error"):
                    plan.check([replace(step, params=moved, leaves=leaves(moved), extents=tuple(moved.extents(isa)))], roots, constants)
            seen.add(type(step.params))
    emitted = {p for p in families.kernel if p.family != "peak"}
    products = {"amx": {"amx"}, "pair": {"conv", "panel"}}.get(isa.dot, {"conv"})
    products.add("depthwise" if isa.x86 else "spatial:depthwise")
    others = {"amx", "conv", "panel", "depthwise", "spatial:depthwise"} - products
    assert {p.family for p in seen} == {p.family for p in emitted} - others


def planned(graph, isa):
    """Steps, buffers and constants as `plan.make` checks them."""
    caught = []
    check = plan.check
    plan.check = lambda *arguments: caught.append(arguments)
    try:
        plan.make(graph, isa)
    finally:
        plan.check = check
    return caught[0]


@pytest.fixture(scope="module")
def host_graphs():
    from graphs import KINDS, random_graph

    shapes = [conv_graph(24, 24, 9, 9, 3, 1, 1), conv_graph(24, 24, 9, 9, 3, 1, 1, groups=24, table=True), conv_graph(24, 24, 2, 2)]
    return shapes + [random_graph(seed, (kind,)) for kind in KINDS for seed in range(2)]


def test_numbers_in_the_block_are_plain():
    """NumPy integers in parameters would make equal kernels look different."""
    for step in planned(conv_graph(24, 24, 9, 9, 3, 1, 1), PATHS[0])[0]:
        assert all(isinstance(leaf, (Ref, np.float32)) or type(leaf) is int or leaf is None for leaf in leaves(step.params))


def test_offsets_that_a_table_cannot_hold_are_refused():
    from axforge.axruntime.engines.host.emission.steps import Constants

    with pytest.raises(OverflowError, match="int32"):
        Constants().add_offsets(np.array([0, 2**31]), np.int32)
    assert Constants().add_offsets(np.array([0, 2**31 - 1]), np.int32).ranges == ((0, 2**31 - 1),)


def test_an_image_too_large_for_a_panels_offsets_takes_another_kernel():
    from axforge.axruntime.engines.host.emission import panel_products

    graph = conv_graph(24, 24, 9, 9, 3, 1, 1)
    avx2 = next(isa for isa in PATHS if isa.name == "avx2")
    asked = []

    def addressable(product, real=panel_products._addressable):
        asked.append((real(product), real(replace(product, in_rs=1 << 28))))
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel_products, "_addressable", addressable)
        families_used = {step.params.family for step in plan.make(graph, avx2).steps}
    assert asked == [(True, False)]
    assert "conv" in families_used
    assert "panel" not in families_used
