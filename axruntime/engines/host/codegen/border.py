"""Fills the border around every image of a buffer with one byte, in one step."""

from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.kit import Fn, Val
from axforge.axruntime.engines.host.features import Isa

#: rows of one image in all; `above`, `below`: first and one past the last row of the image itself; bytes of a row, left and right border
BORDER = ("y.base", "y", "images", "rows", "above", "below", "bytes", "left", "right", "step", "fill")


@dataclass(frozen=True)
class BorderSpec:
    """Nothing to choose."""


def build(name: str, s: BorderSpec, isa: Isa) -> Fn:
    """The kernel; threads share rows."""
    f = Fn(name, isa, BORDER)
    y, fill = f.base("y"), f.param("fill").cast("trunc", "i8")
    p = {n: f.param(n) for n in BORDER[2:-1]}
    first, last = f.share(p["images"] * p["rows"])
    with f.loop(first, last) as row:
        at = f.at(y, row * p["step"])
        r = row % p["rows"]
        inside = r.cmp("sge", p["above"]).bits("and", r.cmp("slt", p["below"]))
        left = f.select(inside, p["left"], p["bytes"])
        _fill(f, at, left, fill)
        right = f.select(inside, p["right"], f.c(0))
        _fill(f, f.at(at, p["bytes"] - right), right, fill)
    return f


def _fill(f: Fn, at: Val, size: Val, fill: Val) -> None:
    """`size` bytes: by vectors, the last of which overlaps, or one by one."""
    n = f.isa.width // 8
    wide = size.cmp("sge", n)
    with f.if_(wide), f.loop(0, size, n) as i:
        f.store(fill.splat(n), at, f.min(i, size - n))
    with f.if_(wide.bits("xor", 1)), f.loop(0, size) as i:
        f.store(fill, at, i)
