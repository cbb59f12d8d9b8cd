"""decode_nanodet against a scalar computation of what the NanoDet project publishes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.postprocessing.nanodet import DecodeNanoDet

#: Not divisible by the strides: the maps are rounded up.
WIDTH, HEIGHT = 50, 35
STRIDES = (8, 16)
COUNT = 7 * 5 + 4 * 3
CONTEXT = DecoderContext(prepare((), np.zeros((HEIGHT, WIDTH, 3), np.uint8)), ("cat", "dog"))


def output(seed: int, bins: int = 8) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random((1, COUNT, 2)), rng.normal(size=(1, COUNT, 4 * bins)) * 3], axis=2).astype(np.float32)


def by_hand(rows: list[list[float]], bins: int, offset: float) -> list[list[float]]:
    """The box of every row, one number at a time."""
    boxes, row = [], 0
    for stride in STRIDES:
        for y in range(math.ceil(HEIGHT / stride)):
            for x in range(math.ceil(WIDTH / stride)):
                sides = []
                for side in range(4):
                    weights = [math.exp(v) for v in rows[row][2 + side * bins : 2 + (side + 1) * bins]]
                    sides.append(stride * sum(i * w for i, w in enumerate(weights)) / sum(weights))
                cx, cy = (x + offset) * stride, (y + offset) * stride
                box = [cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3]]
                boxes.append([min(max(v, 0), limit) for v, limit in zip(box, (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)])
                row += 1
    return boxes


@given(seed=st.integers(0, 10_000), bins=st.sampled_from([8, 11]), offset=st.sampled_from([0.0, 0.5]))
def test_boxes_are_those_of_the_project(seed: int, bins: int, offset: float) -> None:
    values = output(seed, bins)
    step = DecodeNanoDet(classes=2, strides=STRIDES, bins=bins, offset=offset, confidence_threshold=0.0)
    found = step({"output": values}, CONTEXT)
    np.testing.assert_allclose(found.boxes, by_hand(values[0].tolist(), bins, offset), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.scores, values[0, :, :2].max(axis=1))


def test_only_likely_boxes_come_out_with_their_labels() -> None:
    values = output(1)
    values[0, :, :2] = 0.1
    values[0, 20, 1] = 0.9
    result = finish((DecodeNanoDet(classes=2, strides=STRIDES),), {"o": values}, CONTEXT)
    assert result.seen() == ("dog",)


@pytest.mark.parametrize("shape", [(1, COUNT - 1, 34), (1, COUNT, 33), (2, COUNT, 34), (COUNT, 34)])
def test_an_output_of_another_shape_is_answered_with_the_one_that_fits(shape: tuple[int, ...]) -> None:
    with pytest.raises(AxforgeError, match=r"the step takes \[1, 47, 34\] for a picture of 50x35"):
        DecodeNanoDet(classes=2, strides=STRIDES)({"o": np.zeros(shape, np.float32)}, CONTEXT)
