"""Loops over the outer axes of strided operands, which families share whose kernels work on one position of them at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val
from axforge.axruntime.engines.host.codegen.params import A, I, ParameterGroup, R


class Walked(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """An operand or a result: its address, and the byte strides of the outer and the inner axes (a result may lack the inner ones)."""

    at: A
    outer: tuple[I, ...]
    inner: tuple[I, ...]


@contextmanager
def walk(f: Fn, outer: Sequence[Param], operands: Sequence[Walked[Param, Param, Param]]) -> Iterator[list[Val]]:
    """A loop over this thread's share of the positions of the outer axes; gives the addresses of all operands there."""
    starts = [operand.at.get() for operand in operands]
    total = f.c(1)
    for size in outer:
        total = total * size.get()
    first, last = f.share(total)
    with f.loop(first, last) as flat:
        rest, addresses = flat, starts
        for i in reversed(range(len(outer))):
            size_i = outer[i].get()
            at, rest = rest % size_i, rest // size_i
            addresses = [f.at(x, at * operand.outer[i].get()) for x, operand in zip(addresses, operands, strict=True)]
        yield addresses
