"""Convolutions of the shapes that kernels treat differently, with accumulators on rounding ties and at the ends of their range."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from host_support import assert_equal_to_reference, codes, conv_graph, paths

from axforge.axcompiler import ir, spec
from axforge.axruntime.engines.host.emission.layout import layout

SHAPES = {
    "1x1, pixels in one run": {"channels": 64, "out": 96, "height": 9, "width": 13},
    "1x1, channels that fill nothing": {"channels": 23, "out": 47, "height": 7, "width": 5},
    "3x3 with padding": {"channels": 32, "out": 40, "height": 10, "width": 10, "kernel": 3, "pad": 1},
    "3x3 on a small image: tiles over row ends": {"channels": 64, "out": 64, "height": 17, "width": 17, "kernel": 3, "pad": 1},
    "3x3 stride 2": {"channels": 48, "out": 33, "height": 21, "width": 19, "kernel": 3, "stride": 2, "pad": 1},
    "first layer, 3 channels": {"channels": 3, "out": 32, "height": 32, "width": 36, "kernel": 6, "stride": 2, "pad": 2},
    "first layer, 1 channel, 7x7": {"channels": 1, "out": 17, "height": 25, "width": 31, "kernel": 7, "stride": 2, "pad": 3},
    "dilated": {"channels": 20, "out": 24, "height": 16, "width": 16, "kernel": 3, "pad": 4, "dilation": 4},
    "long sums: one channel tile a block": {"channels": 128, "out": 80, "height": 6, "width": 18, "kernel": 3, "pad": 1},
    "weights larger than a chunk": {"channels": 512, "out": 200, "height": 3, "width": 3, "kernel": 3, "pad": 1},
    "one pixel": {"channels": 100, "out": 70, "height": 1, "width": 1},
    "uneven kernel": {"channels": 16, "out": 16, "height": 8, "width": 30, "kernel": (1, 7)},
    "grouped, few channels": {"channels": 32, "out": 64, "height": 9, "width": 9, "kernel": 3, "pad": 1, "groups": 8},
    "grouped, many channels": {"channels": 128, "out": 64, "height": 8, "width": 8, "kernel": 3, "pad": 1, "groups": 2},
    "depthwise 3x3": {"channels": 96, "out": 96, "height": 12, "width": 14, "kernel": 3, "pad": 1, "groups": 96},
    "depthwise 5x5, odd channels": {"channels": 37, "out": 37, "height": 9, "width": 11, "kernel": 5, "pad": 2, "groups": 37},
    "depthwise stride 2": {"channels": 72, "out": 72, "height": 15, "width": 15, "kernel": 3, "stride": 2, "pad": 1, "groups": 72},
    "depthwise, fewer bytes than a vector": {"channels": 5, "out": 5, "height": 4, "width": 4, "kernel": 3, "groups": 5},
    "depthwise with multiplier": {"channels": 6, "out": 18, "height": 7, "width": 7, "kernel": 3, "pad": 1, "groups": 6},
}


@paths
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_near_ties(cpu, shape):
    graph = conv_graph(**shape)
    assert_equal_to_reference(graph, codes(graph), cpu, threads=2)


@paths
@pytest.mark.parametrize("shape", list(SHAPES.values())[:12:3] + list(SHAPES.values())[14:17], ids=lambda s: str(s["channels"]))
def test_operands_at_the_ends_of_their_range(cpu, shape):
    """Sums of two products exceed 16 bits here: a path that saturates shows."""
    graph = conv_graph(**shape, extreme=True, scale=1e-5, zero=-128, table=True)
    assert_equal_to_reference(graph, codes(graph, extreme=True), cpu)


@paths
@pytest.mark.parametrize("scale", [3e38, 1e10, 2.0, 1e-38, 0.0], ids=str)
@pytest.mark.parametrize("shape", [SHAPES["3x3 with padding"], SHAPES["depthwise 3x3"]], ids=["dense", "depthwise"])
def test_extreme_multipliers(cpu, shape, scale):
    """Products that overflow float32 or int32 end at the bounds, tiny ones at the zero point."""
    with np.errstate(over="ignore"):
        graph = conv_graph(**shape, scale=min(scale, 1.5e38))
        assert_equal_to_reference(graph, codes(graph), cpu)


@paths
@pytest.mark.parametrize("bounds", [(5, 127), (5, 60), (-128, -3), (7, 7)], ids=str)
def test_relu_and_clip_are_bounds(cpu, bounds):
    for shape in (SHAPES["3x3 with padding"], SHAPES["depthwise 3x3"], SHAPES["1x1, channels that fill nothing"]):
        graph = conv_graph(**shape, bounds=bounds, scale=2e-3)
        assert_equal_to_reference(graph, codes(graph), cpu)


@paths
@pytest.mark.parametrize("zero", [-128, 127])
def test_padding_is_the_zero_point(cpu, zero):
    graph = conv_graph(**SHAPES["3x3 with padding"], zero=zero)
    assert_equal_to_reference(graph, codes(graph), cpu)


@pytest.mark.parametrize("step", [2, -3, 1_000_000])
@pytest.mark.parametrize(("shape", "axis"), [((1, 16, 1, 9), 2), ((1, 16, 9, 1), 3)])
def test_a_step_over_an_axis_of_one_element_does_not_become_a_stride(step, shape, axis):
    """Slice(step on an axis of size 1) -> padded convolution: the step once became the stride at which the padding was read."""
    after = conv_graph(16, 24, *shape[2:], kernel=3, pad=1)
    cut = ir.Slice(name="cut", inputs=("in",), outputs=("x",), starts=(0,) * 4, steps=tuple(step if a == axis else 1 for a in range(4)))
    graph = replace(after, tensors={**after.tensors, "in": after.tensors["x"]}, ops=(cut, *after.ops), inputs=("in",))
    with pytest.raises(spec.SpecError, match="step 1"):
        spec.check(graph)  # so no file can say it,
    views = layout(graph).views  # and the layout does not rely on that
    assert views["x"] == msgspec.structs.replace(views["in"], shape=shape)
