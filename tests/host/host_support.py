"""Helpers of the host engine's tests: code paths, an in-memory code cache, single-operator graphs with hard numbers."""

from functools import cache

import numpy as np
import pytest

from axforge.axcompiler import ir, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.reference import Reference
from axforge.axruntime.engines.host import HostEngine
from axforge.axruntime.engines.host.codegen.features import PATHS, usable
from axforge.axruntime.engines.host.engine import Context

#: every path, those skipped that this CPU cannot run
paths = pytest.mark.parametrize(
    "cpu", [pytest.param(p.name, marks=pytest.mark.skipif(not usable(p), reason=f"this CPU has no {p.name}")) for p in PATHS]
)


class MemoryCache:
    """Native code by key, for one test run."""

    def __init__(self):
        self.kept = {}

    def get(self, key):
        return self.kept.get(key)

    def put(self, key, data):
        self.kept[key] = data


@cache
def shared_cache():
    return MemoryCache()


def assert_equal_to_reference(graph, feeds, cpu, threads=1, cache=None):
    """All outputs, as codes and as real numbers, equal the reference bit for bit. cache: of native code, if not that of the test run."""
    engine = HostEngine(graph, threads, cpu=cpu, cache=shared_cache() if cache is None else cache)
    rng = np.random.default_rng(0)
    context = Context(engine)
    engine._free.append(context)  # `run` takes it
    try:
        for raw in (True, False):
            # a byte that is read before it is written shows as a wrong code
            for memory in (context.arena, context.scratch):
                memory[:] = rng.integers(0, 256, memory.size, np.uint8)
            expected, found = Reference(graph).run(feeds, raw=raw), engine.run(feeds, raw=raw)
            assert list(found) == list(expected)
            for name, value in expected.items():
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value, err_msg=name)
    finally:
        engine.close()


def conv_graph(
    channels,
    out,
    height,
    width,
    kernel=1,
    stride=1,
    pad=0,
    *,
    groups=1,
    dilation=1,
    table=False,
    bounds=(-128, 127),
    zero=-7,
    extreme=False,
    scale=None,
    seed=0,
):
    """One convolution. extreme: weights and codes at the ends of their range; scale: of all multipliers (near ties where None)."""
    rng = np.random.default_rng(seed)
    k = (kernel, kernel) if isinstance(kernel, int) else kernel
    cg = channels // groups
    shape = (out, cg, *k)
    weight = rng.choice([-127, 127], shape) if extreme else rng.integers(-127, 128, shape)
    oh, ow = ((n + 2 * pad - (s - 1) * dilation - 1) // stride + 1 for n, s in zip((height, width), k, strict=True))
    depth = cg * k[0] * k[1]
    # odd multiples of one half are exact in float32: accumulators fall on ties again and again
    tie = np.float32(0.5) ** np.float32(np.ceil(np.log2(max(depth, 2)) + 6))
    constants = {
        "w": weight.astype(np.int8),
        "b": rng.integers(-(2**16), 2**16, out).astype(np.int32),
        "m": (np.full(out, tie) if scale is None else scale * (1 + rng.random(out))).astype(np.float32),
        "t": rng.integers(-128, 128, 256).astype(np.int8),
    }
    x, y = Quant(0.037, zero), Quant(0.11, 5)
    op = ir.Conv(
        name="conv",
        inputs=("x",),
        outputs=("y",),
        weight="w",
        bias="b",
        multiplier="m",
        strides=(stride, stride),
        dilations=(dilation, dilation),
        pads=(pad,) * 4,
        groups=groups,
        epilogue=Epilogue(zero_point=5, lo=bounds[0], hi=bounds[1], table="t" if table else None),
    )
    x = Quant(float(np.float32(x.scale)), zero)
    y = Quant(float(np.float32(y.scale)), 5)
    tensors = {"x": Tensor((1, channels, height, width), quant=x), "y": Tensor((1, out, oh, ow), quant=y)}
    graph = Graph("conv", tensors, (op,), ("x",), ("y",), constants)
    spec.check(graph)
    return graph


def codes(graph, seed=0, extreme=False):
    """int8 inputs of a graph."""
    rng = np.random.default_rng(seed)
    shapes = {n: graph.tensors[n].shape for n in graph.inputs}
    return {n: (rng.choice([-128, 127], s) if extreme else rng.integers(-128, 128, s)).astype(np.int8) for n, s in shapes.items()}
