"""Strided views of memory: how the tiler and the host engine describe tensors, parts of them, and windows over them."""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

import msgspec

from axforge.axcompiler.program import ITEMSIZE, Kind

Shape = tuple[int, ...]
#: identifies a buffer: a number in the tiler, a name in the host engine
B = TypeVar("B")


class StridedView(msgspec.Struct, Generic[B], frozen=True):
    """Elements of `buffer`: element i starts `offset + sum(i * strides)` bytes after the buffer's start."""

    buffer: B
    offset: int
    shape: Shape
    strides: Shape
    kind: Kind = Kind.INT8

    @property
    def size(self) -> int:
        """Number of elements (repeated ones count)."""
        return math.prod(self.shape)

    def cut(self, axis: int, start: int, size: int, step: int = 1) -> "StridedView[B]":
        """Elements start, start + step, ... of `axis`, `size` of them."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = size, strides[axis] * step
        return StridedView(self.buffer, offset, tuple(shape), tuple(strides), self.kind)

    def permute(self, perm: Sequence[int]) -> "StridedView[B]":
        """Axis i of the result is axis perm[i]."""
        shape, strides = tuple([self.shape[p] for p in perm]), tuple([self.strides[p] for p in perm])
        return StridedView(self.buffer, self.offset, shape, strides, self.kind)

    def split(self, axis: int, sizes: Sequence[int]) -> "StridedView[B]":
        """`axis` as several axes of these sizes, row-major."""
        inner, strides = self.strides[axis], []
        for size in reversed(sizes):
            strides.append(inner)
            inner *= size
        shape = (*self.shape[:axis], *sizes, *self.shape[axis + 1 :])
        strides = [*self.strides[:axis], *reversed(strides), *self.strides[axis + 1 :]]
        return StridedView(self.buffer, self.offset, shape, tuple(strides), self.kind)

    def insert(self, axis: int, size: int, stride: int = 0) -> "StridedView[B]":
        """A new axis before `axis`; stride 0 repeats."""
        shape, strides = (*self.shape[:axis], size, *self.shape[axis:]), (*self.strides[:axis], stride, *self.strides[axis:])
        return StridedView(self.buffer, self.offset, shape, strides, self.kind)

    def drop(self, axis: int) -> "StridedView[B]":
        """Without an axis of size 1."""
        assert self.shape[axis] == 1
        shape, strides = self.shape[:axis] + self.shape[axis + 1 :], self.strides[:axis] + self.strides[axis + 1 :]
        return StridedView(self.buffer, self.offset, shape, strides, self.kind)

    def broadcast(self, shape: Shape) -> "StridedView[B]":
        """Repeated along new leading axes and axes of size 1, as NumPy does."""
        lead = len(shape) - len(self.shape)
        strides = [0] * lead + [0 if d == 1 and n != 1 else s for d, s, n in zip(self.shape, self.strides, shape[lead:], strict=True)]
        return StridedView(self.buffer, self.offset, tuple(shape), tuple(strides), self.kind)

    def window(self, starts: Sequence[int], shape: Sequence[int], steps: Sequence[int] | None = None) -> "StridedView[B]":
        """`cut` along all axes: `shape` elements from `starts` on, every `steps`-th."""
        offset = self.offset + sum(a * s for a, s in zip(starts, self.strides, strict=True))
        strides = self.strides if steps is None else tuple(s * k for s, k in zip(self.strides, steps, strict=True))
        return StridedView(self.buffer, offset, tuple(shape), strides, self.kind)

    def keepdims(self, axes: Collection[int], rank: int) -> "StridedView[B]":
        """The result of a reduction over `axes` of a tensor of `rank` axes, with the reduced axes as axes of size 1."""
        view = self
        if len(self.shape) < rank:
            for axis in sorted(axes):
                view = view.insert(axis, 1)
        return view

    def is_dense(self) -> bool:
        """Whether the elements follow each other in row-major order without gaps (axes of size 1 do not matter)."""
        step = ITEMSIZE[self.kind]
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def bounds(self) -> tuple[int, int]:
        """The lowest byte of any element, and one past the highest, counted from the buffer's start; (offset, offset) without elements."""
        low, high = span(self.shape, self.strides, ITEMSIZE[self.kind])
        return self.offset + low, self.offset + high


def span(shape: Sequence[int], strides: Sequence[int], itemsize: int = 1) -> tuple[int, int]:
    """The lowest byte of elements of `itemsize` bytes with these strides, and one past the highest, from the first element on."""
    if 0 in shape:
        return 0, 0
    low, high = 0, itemsize
    for size, stride in zip(shape, strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high


def row_major(shape: Sequence[int], itemsize: int = 1) -> Shape:
    """Byte strides of elements in row-major order without gaps."""
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def dense(buffer: B, shape: Sequence[int], kind: Kind = Kind.INT8, offset: int = 0) -> StridedView[B]:
    """A row-major view without gaps."""
    return StridedView(buffer, offset, tuple(shape), row_major(shape, ITEMSIZE[kind]), kind)


def joinable(views: Sequence[StridedView[B]], alone: Collection[int] = ()) -> list[list[int]]:
    """Neighbouring axes that all `views` (of one shape) allow to be walked as one. Axes of size 1 are left out; those in `alone` stay."""
    shape = views[0].shape
    assert all(v.shape == shape for v in views)
    groups: list[list[int]] = []
    for axis, size in enumerate(shape):
        if size == 1 and axis not in alone:
            continue
        joins = bool(groups) and axis not in alone and groups[-1][-1] not in alone
        if joins and all(v.strides[groups[-1][-1]] == v.strides[axis] * size for v in views):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def joined(view: StridedView[B], groups: Sequence[Sequence[int]]) -> StridedView[B]:
    """`view` with each of these groups of axes (see `joinable`) as one axis."""
    shape = tuple(math.prod(view.shape[a] for a in g) for g in groups)
    return StridedView(view.buffer, view.offset, shape, tuple(view.strides[g[-1]] for g in groups), view.kind)


def coalesce(views: Sequence[StridedView[B]], keep: int = 0) -> list[StridedView[B]]:
    """The same elements in the same order with as few axes as all `views` (of one shape) allow; the last `keep` axes stay."""
    rank = len(views[0].shape)
    groups = joinable(views, range(rank - keep, rank))
    return [joined(v, groups) for v in views]


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


def split_to(view: StridedView[B], fine: Shape) -> StridedView[B] | None:
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


def reshaped(view: StridedView[B], shape: Shape) -> StridedView[B] | None:
    """`view` with another shape and the same elements in the same order; None if no strides do that."""
    fine = refine(view.shape, shape)
    parts = split_to(view, fine) if fine is not None else None
    if parts is None:
        return None
    sizes, steps = list(parts.shape), list(parts.strides)
    strides: list[int] = []
    for size in reversed(shape):
        left, stride = size, None
        while left > 1:
            n, step = sizes.pop(), steps.pop()
            if stride is not None and step != stride * (size // left):
                return None
            stride = step if stride is None else stride
            left //= n
        strides.append(1 if stride is None else stride)
    return StridedView(view.buffer, view.offset, shape, tuple(reversed(strides)), view.kind)
