"""Fills the border around every image of a buffer with one byte, in one step."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, Params, R, Ref


class BorderSpec(msgspec.Struct, frozen=True):
    """Nothing to choose."""


class BorderParams(Params[A, I, R], frozen=True, kw_only=True):
    """rows: of one image with its border; above, below: first and one past the last row of the image itself.

    bytes: of a row, of which `left` and `right` are border; step: distance of rows in bytes; fill: the byte.
    """

    family: ClassVar[str] = "border"
    spec: BorderSpec
    y: A
    images: I
    rows: I
    above: I
    below: I
    bytes: I
    left: I
    right: I
    step: I
    fill: I

    def extents(self: "BorderParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        yield Extent(self.y, 0, (self.images * self.rows - 1) * self.step + self.bytes, writes=True)


@kernel(BorderParams)
def build(f: Fn, params: BorderParams[Param, Param, Param]) -> None:
    """The kernel; threads share rows."""
    p: BorderParams[Val, Val, Val] = f.values(params)
    fill = p.fill.cast("trunc", "i8")
    first, last = f.share(p.images * p.rows)
    with f.loop(first, last) as row:
        at = f.at(p.y, row * p.step)
        r = row % p.rows
        inside = r.cmp("sge", p.above).bits("and", r.cmp("slt", p.below))
        left = f.select(inside, p.left, p.bytes)
        _fill(f, at, left, fill)
        right = f.select(inside, p.right, f.c(0))
        _fill(f, f.at(at, p.bytes - right), right, fill)


def _fill(f: Fn, at: Val, size: Val, fill: Val) -> None:
    """`size` bytes: by vectors, the last of which overlaps, or one by one."""
    n = f.isa.width // 8
    wide = size.cmp("sge", n)
    with f.if_(wide), f.loop(0, size, n) as i:
        f.store(fill.splat(n), at, f.min(i, size - n))
    with f.if_(wide.bits("xor", 1)), f.loop(0, size) as i:
        f.store(fill, at, i)
