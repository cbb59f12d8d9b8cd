"""Offsets of buffers in one arena: buffers that live at the same time do not overlap."""

from collections.abc import Mapping

import msgspec

ALIGN = 64


class Life(msgspec.Struct, frozen=True):
    """A buffer: bytes, first and last step that touches it."""

    size: int
    first: int
    last: int


def allocate(lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """Offsets by name and the arena's size. Largest first, each into the smallest gap among the buffers alive with it (greedy by size)."""
    placed: list[tuple[int, int, Life]] = []
    offsets: dict[str, int] = {}
    total = 0
    for name, life in sorted(lives.items(), key=lambda item: (-item[1].size, item[1].first, item[0])):
        size = -(-life.size // ALIGN) * ALIGN
        at = _gap(sorted((o, e) for o, e, other in placed if other.first <= life.last and life.first <= other.last), size)
        placed.append((at, at + size, life))
        offsets[name] = at
        total = max(total, at + size)
    return offsets, total


def _gap(taken: list[tuple[int, int]], size: int) -> int:
    """Start of the smallest gap of at least `size` bytes between the sorted intervals, or their end."""
    best, best_room, at = -1, 1 << 62, 0
    for start, end in taken:
        room = start - at
        if size <= room < best_room:
            best, best_room = at, room
        at = max(at, end)
    return best if best >= 0 else at
