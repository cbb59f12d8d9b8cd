"""Offsets for blocks of memory that live for some layers: a peak close to the least possible, the same on every machine.

A few greedy orders give a first plan. If its peak is above the lower bound, a beam search looks for a lower one. It builds plans from the
bottom up: every plan can be written as an order in which each block rests on those below it and offsets never fall, so only such orders
are tried (canonical solutions: Moffitt, MiniMalloc, ASPLOS 2023), and a block is not tried where another one fits wholly below it.
A partial plan is judged by the peak that it needs at least: in each section of time the lowest offset at which any block to come can
begin, and the bytes to come. Repeated searches prefer other blocks among equals, because one preference often misses the best plan.

Work is limited by numbers of partial plans, never by a clock, and all arithmetic is of integers.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: offsets of the blocks that fit, and the blocks that do not
Plan = tuple[dict[str, int], list["Lifetime"]]
#: higher than any offset
_FAR = 1 << 60
#: partial plans that the search keeps after each block, and continuations of each that it tries
WIDTH, BRANCHES = 8, 8
#: exponents of the cost of a partial plan, one after another in repeated searches: how much the worst sections weigh
POWERS = (15, 30, 8, 60)
#: blocks x sections of all repetitions of the search together
WORK = 400_000
#: steps of a bound, as shares of the least peak, in which costs are counted
STEPS = 2048
#: problems of so many blocks are solved exactly while no more partial plans than this are open
EXACT_BLOCKS, EXACT_WIDTH = 24, 1500


@dataclass(frozen=True)
class Lifetime:
    """A block of `size` bytes that is live from layer `first` to layer `last`, both included."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are live in some layer."""
        return self.first <= other.last and other.first <= self.last


def peak(blocks: Sequence[Lifetime], offsets: dict[str, int]) -> int:
    """Bytes from 0 to the end of the highest block."""
    return max((offsets[b.name] + b.size for b in blocks if b.name in offsets), default=0)


def lower_bound(blocks: Sequence[Lifetime]) -> int:
    """The most bytes that are live in one layer: no plan can need less."""
    change: dict[int, int] = {}
    for b in blocks:
        change[b.first] = change.get(b.first, 0) + b.size
        change[b.last + 1] = change.get(b.last + 1, 0) - b.size
    return max(itertools.accumulate(change[layer] for layer in sorted(change)), default=0)


def allocate(blocks: Sequence[Lifetime], capacity: int) -> Plan:
    """Offsets of the blocks that fit below `capacity`, and the blocks that do not."""
    offsets, spilled = first_fit(blocks, capacity)
    if spilled:
        offsets, spilled = _readmit(blocks, offsets, spilled, capacity)
    kept = [b for b in blocks if b.name in offsets]
    return lowered(kept, offsets), spilled


def lowered(blocks: Sequence[Lifetime], offsets: dict[str, int]) -> dict[str, int]:
    """A plan of the same blocks with a lower peak, if the search finds one; else `offsets`."""
    bound = lower_bound(blocks)
    if peak(blocks, offsets) <= bound:
        return offsets
    problem = _Problem(blocks)
    for attempt in range(problem.attempts()):
        offsets = problem.search(peak(blocks, offsets), attempt) or offsets
        if peak(blocks, offsets) == bound:
            return offsets
    if len(blocks) <= EXACT_BLOCKS:
        offsets = problem.search(peak(blocks, offsets), 0, exact=True) or offsets
    return offsets


def _readmit(blocks: Sequence[Lifetime], offsets: dict[str, int], spilled: list[Lifetime], capacity: int) -> Plan:
    """A plan that spills fewer blocks than the greedy one, if the search finds such a plan.

    Blocks come back, largest first, where the lower bound leaves room for them; half as many where no plan is found.
    """
    kept = [b for b in blocks if b.name in offsets]
    back: list[Lifetime] = []
    for block in sorted(spilled, key=lambda b: (-b.size, b.first, b.name)):
        if lower_bound([*kept, *back, block]) <= capacity:
            back.append(block)
    while back:
        chosen = {b.name for b in (*kept, *back)}
        found = _Problem([b for b in blocks if b.name in chosen]).search(capacity + 1, 0)
        if found is not None:
            return found, [b for b in spilled if b.name not in chosen]
        back = back[: len(back) // 2]
    return offsets, spilled


# ---------------------------------------------------------------- greedy orders


def first_fit(blocks: Sequence[Lifetime], capacity: int) -> Plan:
    """Offsets of the blocks that fit below `capacity`, and the blocks that do not.

    Each block goes to the lowest free place. Blocks are tried in three orders (largest first, most bytes x layers first, in order of time);
    the plan that leaves out fewest bytes, and then needs fewest, wins.
    """
    orders = (
        lambda b: (-b.size, b.first, b.name),
        lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
        lambda b: (b.first, -b.size, b.name),
    )
    plans = [_place(sorted(blocks, key=order), capacity) for order in orders]
    return min(plans, key=lambda p: (sum(b.size for b in p[1]), peak(blocks, p[0])))


def _place(blocks: Sequence[Lifetime], capacity: int) -> Plan:
    """`first_fit` in the given order."""
    offsets: dict[str, int] = {}
    spilled: list[Lifetime] = []
    # [first, last, offset, end] of each block that has its place
    placed = np.empty((4, len(blocks)), np.int64)
    for block in blocks:
        first, last, begin, end = placed[:, : len(offsets)]
        meets = np.flatnonzero((first <= block.last) & (last >= block.first))
        at = 0
        for i in meets[begin[meets].argsort(kind="stable")].tolist():
            if at + block.size <= begin[i]:
                break
            at = max(at, int(end[i]))
        if at + block.size > capacity:
            spilled.append(block)
        else:
            placed[:, len(offsets)] = block.first, block.last, at, at + block.size
            offsets[block.name] = at
    return offsets, spilled


# ---------------------------------------------------------------- beam search


@dataclass
class _Partial:
    """Partial plans, one in each row. top: end of the highest block so far, by section; rest: bytes to come, by section.

    free: blocks to come; low: the lowest offset that they may have. at: offsets of placed blocks; block: the last one.
    bound: the peak that the plan needs at least. cost: what to prefer among plans of one bound.
    """

    top: Ints
    rest: Ints
    free: Bools
    low: Ints
    at: Ints
    block: Ints
    bound: Ints
    cost: Ints

    def take(self, rows: Ints) -> "_Partial":
        """These rows."""
        return _Partial(*(getattr(self, f)[rows] for f in ("top", "rest", "free", "low", "at", "block", "bound", "cost")))


class _Problem:
    """Blocks, and the sections of time in which different sets of them are live."""

    def __init__(self, blocks: Sequence[Lifetime]) -> None:
        self.names = [b.name for b in blocks]
        self.size = np.array([b.size for b in blocks], np.int64)
        first, last = (np.array([getattr(b, f) for b in blocks], np.int64) for f in ("first", "last"))
        starts = _sections(first, last)
        self.sections = len(starts)
        low, high = np.searchsorted(starts, first), np.searchsorted(starts, last, side="right")
        self.cover: Bools = (np.arange(self.sections) >= low[:, None]) & (np.arange(self.sections) < high[:, None])
        self.total: Ints = self.cover.T.astype(np.int64) @ self.size
        area = self.size * (high - low)
        self.rank = np.empty(len(blocks), np.int64)
        self.rank[np.lexsort((np.arange(len(blocks)), -area))] = np.arange(len(blocks))
        self._ranges(low, high)

    def _ranges(self, low: Ints, high: Ints) -> None:
        """Tables for the highest, or lowest, of a block's sections: each span is covered by two spans of 2**level sections."""
        width = high - low
        level = np.array([int(w).bit_length() - 1 for w in width], np.int64)
        self.levels = int(level.max()) + 1
        self._left, self._right = level * self.sections + low, level * self.sections + high - (1 << level)
        cells = np.concatenate([self._left, self._right])
        order = np.argsort(cells, kind="stable")
        self._gather = np.concatenate([np.arange(len(low))] * 2)[order]
        self._cells, self._heads = np.unique(cells[order], return_index=True)

    def offsets(self, top: Ints, low: Ints) -> Ints:
        """[plans, blocks]: where each block would rest on those below it, and not under `low`."""
        table = np.empty((len(top), self.levels, self.sections), np.int64)
        table[:, 0] = top
        for level in range(1, self.levels):
            half = 1 << (level - 1)
            table[:, level] = table[:, level - 1]
            np.maximum(table[:, level - 1, :-half], table[:, level - 1, half:], out=table[:, level, :-half])
        flat = table.reshape(len(top), -1)
        offsets: Ints = np.maximum(np.maximum(flat[:, self._left], flat[:, self._right]), low[:, None])
        return offsets

    def floors(self, offsets: Ints) -> Ints:
        """[plans, sections]: the lowest of the offsets of the blocks that are live in each section."""
        table = np.full((len(offsets), self.levels * self.sections), _FAR, np.int64)
        table[:, self._cells] = np.minimum.reduceat(offsets[:, self._gather], self._heads, axis=1)
        spans = table.reshape(len(offsets), self.levels, self.sections)
        for level in range(self.levels - 1, 0, -1):
            half, below = 1 << (level - 1), spans[:, level - 1]
            np.minimum(below, spans[:, level], out=below)
            np.minimum(below[:, half:], spans[:, level, :-half], out=below[:, half:])
        floors: Ints = spans[:, 0]
        return floors

    def attempts(self) -> int:
        """How often the search is worth repeating with other preferences: work is limited, whatever the number of blocks."""
        return max(1, min(WORK // (len(self.names) * self.sections), 5 * len(POWERS)))

    def search(self, limit: int, attempt: int, exact: bool = False) -> dict[str, int] | None:
        """Offsets with a peak below `limit`, or None. attempt: decides among partial plans that are about equally good.

        exact: plans of the same blocks are not compared, so that None means that there is no such plan, or that too many were open.
        """
        count, powers, ties = len(self.names), _powers(POWERS[attempt % len(POWERS)]), self._ties(attempt)
        zeros = np.zeros((1, count), np.int64)
        first = np.zeros(1, np.int64)
        state = _Partial(np.zeros((1, self.sections), np.int64), self.total[None], zeros == 0, first, zeros, first, first, first)
        for _ in range(count):
            state = self._extend(state, count if exact else BRANCHES, powers)
            state = state.take(np.flatnonzero(state.bound < limit))
            if not exact:
                state = state.take(self._best(state, ties))
            if not 0 < len(state.bound) <= EXACT_WIDTH:
                return None
        winner = int(np.argmin(state.bound))
        return dict(zip(self.names, state.at[winner].tolist(), strict=True))

    def _ties(self, attempt: int) -> Ints:
        """A number for each block: its place among equals. The first attempt prefers those that come first."""
        blocks = np.arange(len(self.names), dtype=np.int64)
        return (blocks + 1) * (2 * attempt + 1) * 40503 % 65521 if attempt else blocks

    def _extend(self, state: _Partial, branches: int, powers: Ints) -> _Partial:
        """Each partial plan with each block that may come next."""
        offsets = self.offsets(state.top, state.low)
        ends = np.where(state.free, offsets + self.size, _FAR).min(axis=1)
        key = np.where(state.free & (offsets < ends[:, None]), offsets * len(self.names) + self.rank, _FAR)
        tried = np.argsort(key, axis=1, kind="stable")[:, :branches]
        plan, column = np.nonzero(np.take_along_axis(key, tried, 1) < _FAR)
        block = tried[plan, column]
        at, size, row = offsets[plan, block], self.size[block], np.arange(len(block))
        cover = self.cover[block]
        top = np.where(cover, (at + size)[:, None], state.top[plan])
        rest = state.rest[plan] - cover * size[:, None]
        free, placed = state.free[plan], state.at[plan]
        free[row, block], placed[row, block] = False, at
        floors = self.floors(np.where(free, self.offsets(top, at), _FAR))
        needs = np.where(rest > 0, floors + rest, top)
        shares = np.minimum(needs * STEPS // int(self.total.max()), 2 * STEPS)
        return _Partial(top, rest, free, at, placed, block, needs.max(axis=1), powers[shares].sum(axis=1))

    def _best(self, state: _Partial, ties: Ints) -> Ints:
        """The rows of the best partial plans, one for each set of placed blocks."""
        chosen: dict[bytes, int] = {}
        sets = np.packbits(state.free, axis=1)
        for row in np.lexsort((ties[state.block], state.cost, state.bound)).tolist():
            chosen.setdefault(sets[row].tobytes(), row)
            if len(chosen) == WIDTH:
                break
        return np.array(list(chosen.values()), np.int64)


def _powers(power: int) -> Ints:
    """The share of a section in the cost of a partial plan, by its bound in 1/STEPS of the least peak: the bound to this power."""
    return np.array([(q**power << 50) // (2 * STEPS) ** power for q in range(2 * STEPS + 1)], np.int64)


def _sections(first: Ints, last: Ints) -> Ints:
    """First layers of the sections: starts after which a block ends before the next start. (The blocks of any other start meet there.)"""
    starts, ends = np.unique(first), np.unique(last)
    following = np.append(starts[1:], _FAR)
    at = np.searchsorted(ends, starts)
    kept: Ints = starts[ends[np.minimum(at, len(ends) - 1)] < following]
    return kept
