"""Pre-processing: each step does what its parameters say, and boxes find their way back to the source picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.layout import InputLayout
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize

PICTURE = np.random.default_rng(1).integers(0, 256, (60, 100, 3), dtype=np.uint8)
RAW = Normalize(mean=0, std=1, divisor=1)


def test_without_steps_a_picture_becomes_nchw_float() -> None:
    tensor = prepare((), PICTURE).tensor
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor[0].transpose(1, 2, 0), PICTURE)


def test_layout_nhwc_leaves_the_channels_last() -> None:
    assert np.array_equal(prepare((InputLayout(to="NHWC"),), PICTURE).tensor[0], PICTURE)


def test_normalize_divides_then_subtracts_then_divides() -> None:
    step = Normalize(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    expected = (PICTURE.astype(np.float64) / 255 - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0]
    assert np.allclose(prepare((step,), PICTURE).tensor[0].transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 1), (7, 9, 2), (60, 100, 3), (7, 9, 4), (7, 9, 5)])
def test_normalize_of_bytes_is_that_of_floats_bit_for_bit(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    many = tuple(0.1 + 0.3 * c for c in range(shape[2])) if len(shape) == 3 else 0.45
    step = Normalize(mean=many, std=many)
    for picture in (value, value[:, ::-1]):
        assert np.array_equal(prepare((step,), picture).tensor, prepare((step,), picture.astype(np.float32)).tensor)


def test_normalize_with_a_wrong_number_of_channels_is_an_error() -> None:
    with pytest.raises(AxforgeError, match="2 numbers are given for a picture of 3 channels"):
        prepare((Normalize(mean=(1.0, 2.0)),), PICTURE)


def test_bgr_turns_the_channels_round() -> None:
    assert np.array_equal(prepare((ConvertColor(to="BGR"),), PICTURE).tensor[0].transpose(1, 2, 0), PICTURE[:, :, ::-1])


def test_gray_is_the_luminance_of_jpeg() -> None:
    tensor = prepare((ConvertColor(to="GRAY"),), PICTURE).tensor
    expected = np.asarray(Image.fromarray(PICTURE).convert("YCbCr"))[:, :, 0]
    assert tensor.shape == (1, 1, 60, 100)
    assert np.abs(tensor[0, 0] - expected).max() <= 1


def test_gray_of_an_array_without_colours_is_an_error() -> None:
    with pytest.raises(AxforgeError, match="colours cannot be converted"):
        prepare((ConvertColor(to="GRAY"),), PICTURE[:, :, 0])


def test_an_array_of_features_passes_as_one_channel() -> None:
    features = np.arange(-12, 0, dtype=np.int8).reshape(4, 3)
    tensor = prepare((Normalize(mean=2, std=0.5, divisor=1),), features).tensor
    assert np.array_equal(tensor, (features[np.newaxis, np.newaxis].astype(np.float32) - 2) / 0.5)


def test_a_centred_letterbox_has_equal_bars() -> None:
    prepared = prepare((Resize(width=64, height=64, letterbox=True, pad_value=7),), PICTURE)
    rows = prepared.picture[:, 5, 0] == 7
    height = round(60 * 64 / 100)
    assert prepared.picture.shape == (64, 64, 3)
    assert rows[: (64 - height) // 2].all()
    assert rows[64 - (64 - height) // 2 :].all()
    assert not rows[20:44].all()


def test_a_top_left_letterbox_pads_below_and_right_only() -> None:
    prepared = prepare((Resize(width=64, height=64, letterbox=True, position="top-left", pad_value=7),), PICTURE)
    assert (prepared.picture[int(60 * 0.64) :] == 7).all()
    assert prepared.geometry.offset_x == prepared.geometry.offset_y == 0


def test_size_fits_the_shorter_side_and_the_crop_takes_the_middle() -> None:
    prepared = prepare((Resize(size=30), CenterCrop(width=20, height=30)), PICTURE)
    whole = prepare((Resize(size=30),), PICTURE).picture
    assert whole.shape == (30, 50, 3)
    assert np.array_equal(prepared.picture, whole[:, 15:35])


def test_a_crop_larger_than_the_picture_is_an_error() -> None:
    with pytest.raises(AxforgeError, match="200x30 does not fit into a picture of 100x60"):
        prepare((CenterCrop(width=200, height=30),), PICTURE)


def test_antialias_averages_what_falls_on_a_pixel() -> None:
    stripes = np.zeros((8, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    smooth = prepare((Resize(width=16, height=8, antialias=True),), stripes).picture
    assert np.abs(smooth[:, 2:-2].astype(int) - 127).max() <= 1


STEPS = st.sampled_from(
    [
        (Resize(width=64, height=48),),
        (Resize(width=64, height=64, letterbox=True),),
        (Resize(width=96, height=40, letterbox=True, position="top-left"),),
        (Resize(size=50), CenterCrop(width=40, height=40)),
        (Resize(size=30, antialias=True), CenterCrop(width=20, height=20), RAW),
    ]
)


@given(steps=STEPS, width=st.integers(20, 200), height=st.integers(20, 200), corner=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_box_in_the_networks_picture_comes_back_to_the_source(
    steps: tuple[Resize | CenterCrop, ...], width: int, height: int, corner: tuple[float, float]
) -> None:
    g = prepare(steps, np.zeros((height, width, 3), np.uint8)).geometry
    x, y = corner[0] * width, corner[1] * height
    there = np.array([[x * g.scale_x + g.offset_x, y * g.scale_y + g.offset_y] * 2])
    assert np.allclose(g.to_source(there), [[x, y, x, y]], atol=1e-6)


def test_boxes_are_clipped_to_the_source() -> None:
    g = prepare((Resize(width=50, height=30),), PICTURE).geometry
    assert g.to_source(np.array([[-5, -5, 500, 500]])).tolist() == [[0, 0, 100, 60]]


def test_the_drawn_centre_of_a_mark_matches_the_geometry() -> None:
    """The geometry must agree with the pixels, not only with itself."""
    image = np.zeros((90, 160, 3), np.uint8)
    image[40:50, 100:120] = 255
    for position in ("center", "top-left"):
        prepared = prepare((Resize(width=128, height=128, letterbox=True, position=position, pad_value=0),), image)  # type: ignore[arg-type]
        ys, xs = np.nonzero(prepared.picture[:, :, 0] > 127)
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
        assert np.abs(prepared.geometry.to_source(box) - [100, 40, 120, 50]).max() <= 1.0
