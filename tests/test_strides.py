"""Views name the elements NumPy's own operations would: cuts, permutations, splits, joined axes, refinements of reshapes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from axforge.axcompiler.strides import StridedView, coalesce, dense, refine, split_to
from axforge.axcompiler.tile.lowerings.movement import steady

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


def elements(view: StridedView) -> np.ndarray:
    data = np.arange(20_000, dtype=np.int16)[view.offset :]
    return as_strided(data, view.shape, [2 * s for s in view.strides])


@given(SHAPES, st.data())
def test_cut_permute_and_broadcast(shape, data):
    view, array = dense(0, shape), np.arange(int(np.prod(shape))).reshape(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    start = data.draw(st.integers(0, shape[axis] - 1))
    size = data.draw(st.integers(1, shape[axis] - start))
    cut = array[(slice(None),) * axis + (slice(start, start + size),)]
    perm = data.draw(st.permutations(range(len(shape))))
    np.testing.assert_array_equal(elements(view.cut(axis, start, size).permute(perm)), cut.transpose(perm))
    wide = (2, *(4 if d == 1 else d for d in shape))
    np.testing.assert_array_equal(elements(view.broadcast(wide)), np.broadcast_to(array, wide))


@given(SHAPES, st.data())
def test_a_window_is_a_slice_of_every_axis(shape, data):
    slices = [slice(data.draw(st.integers(0, d - 1)), d, data.draw(st.integers(1, 3))) for d in shape]
    part = np.arange(int(np.prod(shape))).reshape(shape)[tuple(slices)]
    view = dense(0, shape).window([s.start for s in slices], part.shape, [s.step for s in slices])
    np.testing.assert_array_equal(elements(view), part)


@given(SHAPES, st.data())
def test_bounds_are_the_first_and_last_byte_of_any_element(shape, data):
    steps = [data.draw(st.sampled_from([-2, -1, 0, 1, 3])) for _ in shape]
    view = dense(0, shape, offset=data.draw(st.integers(0, 9))).window([0] * len(shape), shape, steps)
    places = view.offset + sum(i * s for i, s in zip(np.indices(shape), view.strides, strict=True))
    assert view.bounds() == (places.min(), places.max() + 1)


@given(SHAPES, st.data())
def test_a_view_is_dense_if_its_bytes_follow_each_other(shape, data):
    view = dense(0, shape).permute(data.draw(st.permutations(range(len(shape)))))
    assert view.is_dense() == np.array_equal(elements(view).reshape(-1), np.arange(view.size))


@given(SHAPES, st.data())
def test_reduced_axes_come_back_as_axes_of_one_element(shape, data):
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    array = np.arange(int(np.prod(shape))).reshape(shape)
    left = dense(0, [d for a, d in enumerate(shape) if a not in axes])
    assert left.keepdims(axes, len(shape)).shape == array.sum(axis=tuple(axes), keepdims=True).shape


@given(SHAPES, st.data())
def test_coalescing_keeps_elements_and_order(shape, data):
    perm = data.draw(st.permutations(range(len(shape))))
    views = [dense(0, shape).permute(perm), dense(0, [shape[p] for p in perm])]
    for before, after in zip(views, coalesce(views), strict=True):
        np.testing.assert_array_equal(elements(before).reshape(-1), elements(after).reshape(-1))
    assert len(coalesce([dense(0, shape)])[0].shape) <= 1


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_a_reshape_with_a_refinement_is_one_strided_copy(factors, data):
    def joined():
        out, left = [], list(factors)
        while left:
            n = data.draw(st.integers(1, len(left)))
            out.append(int(np.prod(left[:n])))
            left = left[n:]
        return tuple(out)

    a, b = joined(), joined()
    fine = refine(a, b)
    assert fine is not None
    parts = [split_to(dense(0, s), fine) for s in (a, b)]
    assert parts[0] is not None
    assert parts[1] is not None
    np.testing.assert_array_equal(elements(parts[0]), elements(parts[1]))


def test_a_reshape_without_a_refinement_says_so():
    assert refine((2, 3), (3, 2)) is None
    assert refine((1, 255, 80, 80), (1, 3, 85, 80, 80)) == (3, 85, 80, 80)


@given(st.integers(0, 9), st.integers(-3, 3).filter(bool), st.integers(1, 4), st.integers(1, 6))
def test_steady_indices_are_found(start, step, repeat, count):
    index = np.repeat(start + step * np.arange(count), repeat)
    found = steady(index)
    assert found is not None
    again = np.repeat(found[0] + found[1] * np.arange(len(index) // found[2]), found[2])
    np.testing.assert_array_equal(again, index)


def test_unsteady_indices_are_not():
    assert steady(np.array([0, 0, 0, 1, 2, 3, 3, 3])) is None
    assert steady(np.array([0, 0, 1])) is None
