"""Stacks of matrices: attention moves no code, whatever order an exporter writes its axes in, and views of views keep their codes."""

import numpy as np
import pytest
from graphs import feeds_for, random_graph
from host_support import assert_equal_to_reference, codes, paths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, numerics, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axruntime.engines.host.codegen.features import PATHS
from axforge.axruntime.engines.host.emission.stacks import stacks
from axforge.axruntime.engines.host.planning import plan

HEADS, TOKENS, DEPTH = 3, 21, 20


class Builder:
    """Grows a graph; every tensor has the same scale."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[ir.Op] = []
        self.constants: dict[str, np.ndarray] = {}

    def tensor(self, *shape: int) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(shape, quant=Quant(0.0625, 3))
        return name

    def add(self, kind: type[ir.Op], operands: tuple[str, ...], *shape: int, **fields) -> str:
        out = self.tensor(*shape)
        self.ops.append(kind(name=f"op{len(self.ops)}", inputs=operands, outputs=(out,), **fields))
        return out

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def transpose(self, x: str, *perm: int) -> str:
        return self.add(ir.Transpose, (x,), *(self.shape(x)[p] for p in perm), perm=perm)

    def reshape(self, x: str, *shape: int) -> str:
        return self.add(ir.Reshape, (x,), *shape)

    def part(self, x: str, i: int) -> str:
        """Index i of axis 0, which goes."""
        one = self.add(ir.Slice, (x,), 1, *self.shape(x)[1:], starts=(i, *(0 for _ in self.shape(x)[1:])), steps=(1,) * len(self.shape(x)))
        return self.reshape(one, *self.shape(x)[1:])

    def product(self, a: str, b: str) -> str:
        shape = (*self.shape(a)[:-1], self.shape(b)[-1])
        return self.add(ir.MatMul, (a, b), *shape, multiplier=2.0**-9, epilogue=Epilogue(3))

    def softmax(self, x: str) -> str:
        self.constants["e"] = np.rint(np.exp(-0.0625 * np.arange(256)) * 2**numerics.SOFTMAX_BITS).astype(np.int32)
        return self.add(ir.Softmax, (x,), *self.shape(x), axis=len(self.shape(x)) - 1, exponent="e", multiplier=16.0, epilogue=Epilogue(3))

    def build(self, *outputs: str) -> Graph:
        graph = Graph("stacks", self.tensors, tuple(self.ops), ("t0",), outputs, self.constants)
        spec.check(graph)
        return graph


def attention(order: str) -> Graph:
    """Self-attention as exporters write it. order: of the axes that queries, keys and values are made in."""
    b = Builder()
    x = b.tensor(1, TOKENS, 3 * HEADS * DEPTH)
    if order == "stacked":
        split = b.transpose(b.reshape(x, 1, TOKENS, 3, HEADS, DEPTH), 2, 0, 3, 1, 4)
        q, k, v = (b.part(split, i) for i in range(3))
        k = b.transpose(k, 0, 1, 3, 2)
    else:
        rows = b.reshape(x, TOKENS, 3, HEADS * DEPTH)
        parts = [b.part(b.transpose(rows, 1, 0, 2), i) for i in range(3)]
        q, k, v = (
            b.transpose(b.reshape(part, 1, TOKENS, HEADS, DEPTH), 0, 2, *last)
            for part, last in zip(parts, ((1, 3), (3, 1), (1, 3)), strict=True)
        )
    out = b.product(b.softmax(b.product(q, k)), v)
    return b.build(b.reshape(b.transpose(out, 0, 2, 1, 3), 1, TOKENS, HEADS * DEPTH))


@paths
@pytest.mark.parametrize("order", ["stacked", "each alone"])
def test_attention_equals_the_reference(cpu, order):
    graph = attention(order)
    assert_equal_to_reference(graph, codes(graph), cpu, threads=2)


@pytest.mark.parametrize("order", ["stacked", "each alone"])
def test_attention_copies_nothing(order):
    families = [step.params.family for step in plan.make(attention(order), PATHS[-1]).steps]
    assert families.count("nd") == 2  # what comes in and what goes out
    assert "softmax" in families


def test_images_stay_images():
    for seed in range(20):
        assert not stacks(random_graph(seed, ("conv", "add", "max_pool", "table", "concat", "conv")))


MOVES = ("transpose", "reshape", "slice", "matmul", "softmax", "layer_norm", "table", "add", "concat", "conv", "max_pool", "take", "pad")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**20), st.lists(st.sampled_from(MOVES), min_size=3, max_size=8))
def test_views_of_views_equal_the_reference(seed, kinds):
    graph = random_graph(seed, tuple(kinds))
    assert_equal_to_reference(graph, feeds_for(graph, seed), None)
