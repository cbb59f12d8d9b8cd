"""Buffers that live together never share a byte, a plan never beats its lower bound, and what does not fit L2 goes to DDR."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler.tile.layout import pitch
from axforge.axcompiler.tile.planner import Lifetime, allocate, first_fit, lower_bound, peak

BLOCKS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6)).map(lambda t: (t[0] * 64, t[1], t[1] + t[2])), max_size=25
).map(lambda rows: [Lifetime(f"b{i}", *row) for i, row in enumerate(rows)])


@given(BLOCKS, st.integers(0, 4000), st.sampled_from([first_fit, allocate]))
def test_a_plan_is_sound(blocks, capacity, planner):
    offsets, spilled = planner(blocks, capacity)
    assert sorted([*offsets, *(b.name for b in spilled)]) == sorted(b.name for b in blocks)
    kept = [b for b in blocks if b.name in offsets]
    for i, a in enumerate(kept):
        assert 0 <= offsets[a.name] <= capacity - a.size
        for b in kept[i + 1 :]:
            apart = offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]
            assert apart or not a.meets(b)
    assert lower_bound(kept) <= peak(kept, offsets) <= capacity


@given(BLOCKS, st.integers(0, 4000))
def test_the_search_spills_no_more_than_the_greedy_orders(blocks, capacity):
    greedy, found = (sum(b.size for b in planner(blocks, capacity)[1]) for planner in (first_fit, allocate))
    assert found <= greedy


def resting_peaks(blocks, placed=()):
    """Peaks of all plans in which each block of some order rests on those before it: one of them is the least of all plans."""
    if not blocks:
        yield max(at + b.size for at, b in placed)
    for i, block in enumerate(blocks):
        at = max((o + b.size for o, b in placed if b.meets(block)), default=0)
        yield from resting_peaks(blocks[:i] + blocks[i + 1 :], (*placed, (at, block)))


@settings(max_examples=60, deadline=None)
@given(BLOCKS.filter(lambda blocks: 1 <= len(blocks) <= 6))
def test_small_problems_are_solved_exactly(blocks):
    assert peak(blocks, allocate(blocks, 1 << 30)[0]) == min(resting_peaks(blocks))


def test_a_plan_that_no_greedy_order_finds():
    rows = [(320, 2, 3), (128, 2, 4), (192, 4, 7), (192, 3, 5), (384, 1, 1), (192, 4, 4), (64, 3, 6)]
    blocks = [Lifetime(f"b{i}", *row) for i, row in enumerate(rows)]
    assert lower_bound(blocks) == peak(blocks, allocate(blocks, 1 << 20)[0]) < peak(blocks, first_fit(blocks, 1 << 20)[0])


CHALLENGING = sorted((Path(os.environ.get("AXFORGE_DATA_ROOT", "/nowhere")) / "data" / "minimalloc").glob("*.csv"))


@pytest.mark.skipif(not CHALLENGING, reason="the instances of google/minimalloc are not here")
@pytest.mark.parametrize("path", CHALLENGING[:3], ids=lambda path: path.name[0])
def test_challenging_instances_are_planned_close_to_the_optimum(path):
    rows = [map(int, line.split(",")) for line in path.read_text().split()[1:]]
    blocks = [Lifetime(f"{i}", size, first, end - 1) for i, first, end, size in rows]
    offsets, spilled = allocate(blocks, 1 << 40)
    assert not spilled
    assert peak(blocks, offsets) <= 1.1 * int(path.name.split(".")[1])
    assert offsets == allocate(blocks, 1 << 40)[0]


@given(BLOCKS)
def test_nothing_is_spilled_where_all_could_lie_side_by_side(blocks):
    total = sum(b.size for b in blocks)
    offsets, spilled = first_fit(blocks, total)
    assert not spilled
    assert len(offsets) == len(blocks)


def test_a_chain_needs_no_more_than_its_widest_pair():
    chain = [Lifetime(f"t{i}", size, i, i + 1) for i, size in enumerate((64, 640, 128, 1280, 64, 256))]
    offsets, _ = first_fit(chain, 1 << 20)
    assert peak(chain, offsets) == lower_bound(chain) == 128 + 1280


def test_pixels_are_whole_words_or_share_one():
    assert [pitch(c) for c in (1, 3, 5, 12, 24, 33, 64, 65, 255)] == [4, 4, 8, 16, 32, 64, 64, 128, 256]
