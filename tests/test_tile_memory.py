"""Buffers that live together never share a byte, a plan never beats its lower bound, and what does not fit L2 goes to DDR."""

from hypothesis import given
from hypothesis import strategies as st

from axforge.axcompiler.tile.layout import pitch
from axforge.axcompiler.tile.memory import Lifetime, first_fit, lower_bound, peak

BLOCKS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6)).map(lambda t: (t[0] * 64, t[1], t[1] + t[2])), max_size=25
).map(lambda rows: [Lifetime(f"b{i}", *row) for i, row in enumerate(rows)])


@given(BLOCKS, st.integers(0, 4000))
def test_a_plan_is_sound(blocks, capacity):
    offsets, spilled = first_fit(blocks, capacity)
    assert sorted([*offsets, *(b.name for b in spilled)]) == sorted(b.name for b in blocks)
    kept = [b for b in blocks if b.name in offsets]
    for i, a in enumerate(kept):
        assert 0 <= offsets[a.name] <= capacity - a.size
        for b in kept[i + 1 :]:
            apart = offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]
            assert apart or not a.meets(b)
    assert lower_bound(kept) <= peak(kept, offsets) <= capacity


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
