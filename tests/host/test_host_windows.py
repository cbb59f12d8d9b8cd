"""Windows of 16-bit sums: no input makes one saturate, and together they are the whole product."""

import numpy as np
import pytest
from host_support import assert_equal_to_reference, codes, conv_graph, paths

from axforge.axruntime.engines.host.codegen.kernels.panel import CHANNELS, WINDOWS
from axforge.axruntime.engines.host.emission.windows import count_entries, windows

#: weights of four bytes at the edge of what 16 bits hold: 255 * 128 = 32640 fits, 255 * 129 = 32895 does not
EDGES = {
    "all 127": [127, 127, 127, 127],
    "all -128": [-128, -128, -128, -128],
    "pairs of opposite signs": [127, -128, -128, 127],
    "pairs that just fit": [64, 64, -64, -64],
    "pairs that just do not fit": [65, 64, -65, -64],
    "one lane fits": [1, 2, 127, 2],
    "pairs of both": [127, 127, -128, -128],
    "zeros": [0, 0, 0, 0],
    "fills a window": [128 // 2, 0, 0, -128],
}


def weights_of(four, channels=19, depth=12):
    return np.broadcast_to(np.array(four, np.int8), (channels, depth, 4)).copy()


def random_weights(scale, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(rng.normal(size=(37, 50, 4)) * scale), -128, 127).astype(np.int8)


def emulated(found, x, channels):
    """The sums of all channels as the kernel makes them, with the saturation of vpmaddubsw and 16-bit sums that wrap around."""
    sums = np.zeros(channels, np.int64)
    for block, (start, parts) in enumerate(zip(found.starts, found.counts, strict=True)):
        at = start // 8
        for part in parts:
            for channel, counts in enumerate(part, block * CHANNELS):
                for size in np.repeat(WINDOWS, counts):
                    total = np.zeros(2, np.int64)
                    for place, weight in found.entries[at : at + size]:
                        four = np.array([weight], np.int32).view(np.int8).astype(np.int64)
                        products = (x[place // 4] * four).reshape(2, 2).sum(axis=1)
                        total = (total + np.clip(products, -32768, 32767) + 32768) % 65536 - 32768
                    sums[channel] += total.sum()
                    at += size
    return sums


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "weights",
    [*(weights_of(four) for four in EDGES.values()), *(random_weights(s) for s in (5, 40, 90, 500))],
    ids=[*EDGES, "small", "normal", "large", "at the ends"],
)
def test_windows_never_saturate_and_are_the_whole_product(weights, parts):
    count, depth, _ = weights.shape
    found = windows(weights, np.arange(depth, dtype=np.int32) * 4, parts)
    assert len(found.entries) == count_entries(weights)
    rng = np.random.default_rng(1)
    # what makes sums largest, smallest, and anything
    highest, lowest = np.where(weights > 0, 255, 0), np.where(weights < 0, 255, 0)
    for x in (*highest[:3], *lowest[:3], np.full((depth, 4), 255), rng.integers(0, 256, (depth, 4))):
        expected = (weights.astype(np.int64) * x).sum(axis=(1, 2))
        np.testing.assert_array_equal(emulated(found, x, count), expected)


def test_windows_hold_as_many_products_as_fit():
    """Small weights fill the longest windows; the bound, not the length, ends those of large ones."""
    small, large = (windows(weights_of(four, 16), np.zeros(12, np.int32)).counts[0, 0, 0] for four in ([1] * 4, [32] * 4))
    assert small.tolist() == [3, 0, 0, 0]
    assert large.tolist() == [0, 0, 6, 0]


@paths
@pytest.mark.parametrize("four", EDGES.values(), ids=EDGES.keys())
@pytest.mark.parametrize(
    "shape",
    [
        {"channels": 32, "out": 19, "height": 6, "width": 7},
        {"channels": 12, "out": 20, "height": 7, "width": 9, "kernel": 3, "pad": 1},
        {"channels": 32, "out": 32, "height": 6, "width": 7, "kernel": 3, "pad": 1, "groups": 32},
    ],
    ids=["1x1", "3x3", "depthwise"],
)
def test_weights_at_the_edge_of_16_bits(cpu, shape, four):
    graph = conv_graph(**shape, scale=1e-5, zero=-128)
    flat = graph.constants["w"].reshape(shape["out"], -1)
    flat[...] = np.resize(np.array(four, np.int8), flat.shape[1])
    for extreme in (True, False):
        assert_equal_to_reference(graph, codes(graph, extreme=extreme), cpu)
    assert_equal_to_reference(graph, {"x": np.full(graph.tensors["x"].shape, 127, np.int8)}, cpu)


@paths
@pytest.mark.parametrize(
    "shape",
    [
        {"channels": 8, "out": 16, "height": 30, "width": 33, "kernel": 3, "stride": 2, "pad": 1},
        {"channels": 16, "out": 5, "height": 13, "width": 13, "kernel": 5, "stride": 3, "pad": 2},
        {"channels": 24, "out": 8, "height": 17, "width": 15, "kernel": 3, "pad": 2, "dilation": 2},
        {"channels": 40, "out": 33, "height": 4, "width": 4, "stride": 1},
        {"channels": 12, "out": 16, "height": 21, "width": 9, "kernel": (3, 1), "stride": 2},
        {"channels": 2, "out": 24, "height": 18, "width": 18, "kernel": 7, "stride": 2, "pad": 3},
    ],
    ids=["stride 2", "stride 3", "dilation", "few pixels", "one column", "two channels"],
)
def test_panels(cpu, shape):
    graph = conv_graph(**shape, table=True)
    assert_equal_to_reference(graph, codes(graph), cpu, threads=2)
