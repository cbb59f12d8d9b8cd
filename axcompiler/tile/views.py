"""Strided views of buffers: how the compiler speaks of tensors, parts of them, and windows over them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from axforge.axcompiler.program import ITEMSIZE, Kind

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Elements of `buffer`: element i lies `offset + sum(i * strides)` bytes after the buffer's start."""

    buffer: int
    offset: int
    shape: Shape
    strides: Shape
    kind: Kind = Kind.INT8

    @property
    def size(self) -> int:
        """Number of elements (repeated ones count)."""
        return math.prod(self.shape)

    def cut(self, axis: int, start: int, size: int, step: int = 1) -> "View":
        """Elements start, start + step, ... of `axis`, `size` of them."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = size, strides[axis] * step
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))

    def permute(self, perm: Sequence[int]) -> "View":
        """Axis i of the result is axis perm[i]."""
        return replace(self, shape=tuple(self.shape[p] for p in perm), strides=tuple(self.strides[p] for p in perm))

    def split(self, axis: int, sizes: Sequence[int]) -> "View":
        """`axis` as several axes of these sizes, row-major."""
        inner, strides = self.strides[axis], []
        for size in reversed(sizes):
            strides.append(inner)
            inner *= size
        return replace(
            self,
            shape=(*self.shape[:axis], *sizes, *self.shape[axis + 1 :]),
            strides=(*self.strides[:axis], *reversed(strides), *self.strides[axis + 1 :]),
        )

    def insert(self, axis: int, size: int, stride: int = 0) -> "View":
        """A new axis before `axis`; stride 0 repeats."""
        return replace(
            self,
            shape=(*self.shape[:axis], size, *self.shape[axis:]),
            strides=(*self.strides[:axis], stride, *self.strides[axis:]),
        )

    def drop(self, axis: int) -> "View":
        """Without an axis of size 1."""
        assert self.shape[axis] == 1
        return replace(self, shape=self.shape[:axis] + self.shape[axis + 1 :], strides=self.strides[:axis] + self.strides[axis + 1 :])

    def broadcast(self, shape: Shape) -> "View":
        """Repeated along new leading axes and axes of size 1, as NumPy does."""
        lead = len(shape) - len(self.shape)
        strides = [0] * lead + [0 if d == 1 and n != 1 else s for d, s, n in zip(self.shape, self.strides, shape[lead:], strict=True)]
        return replace(self, shape=tuple(shape), strides=tuple(strides))


def dense(buffer: int, shape: Sequence[int], kind: Kind = Kind.INT8, offset: int = 0) -> View:
    """A row-major view without gaps."""
    strides, step = [], ITEMSIZE[kind]
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return View(buffer, offset, tuple(shape), tuple(reversed(strides)), kind)


def coalesce(views: Sequence[View], keep: int = 0) -> list[View]:
    """The same elements in the same order with as few axes as all `views` (of one shape) allow; the last `keep` axes stay."""
    shape = views[0].shape
    assert all(v.shape == shape for v in views)
    rank = len(shape)
    groups: list[list[int]] = []
    for axis in range(rank - keep):
        if shape[axis] == 1:
            continue
        if groups and all(v.strides[groups[-1][-1]] == v.strides[axis] * shape[axis] for v in views):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    tail = range(rank - keep, rank)
    new_shape = tuple(math.prod(shape[a] for a in g) for g in groups) + tuple(shape[a] for a in tail)
    return [replace(v, shape=new_shape, strides=tuple(v.strides[g[-1]] for g in groups) + tuple(v.strides[a] for a in tail)) for v in views]


def refine(a: Shape, b: Shape) -> Shape | None:
    """A shape of which both `a` and `b` are made by joining neighbours; None if there is none."""

    def borders(shape: Shape) -> set[int]:
        out, product = set(), 1
        for d in shape:
            product *= d
            out.add(product)
        return out

    cuts = sorted(borders(a) | borders(b) | {1})
    if any(y % x for x, y in itertools.pairwise(cuts)):
        return None
    return tuple(y // x for x, y in itertools.pairwise(cuts)) or (1,)


def split_to(view: View, fine: Shape) -> View | None:
    """`view` with each axis split so that its shape, apart from axes of size 1, is `fine`; None if an axis of `fine` spans two."""
    left = list(fine)
    axis = 0
    while axis < len(view.shape):
        size, parts = view.shape[axis], []
        while size > 1:
            if not left or size % left[0]:
                return None
            parts.append(left.pop(0))
            size //= parts[-1]
        if view.shape[axis] == 1:
            view = view.drop(axis)
        else:
            view = view.split(axis, parts)
            axis += len(parts)
    return view if view.shape == tuple(d for d in fine if d != 1) else None
