"""Codes written at once are those of the long way: float32 tensor, then quantization; and engines say the same for either."""

from pathlib import Path

import numpy as np
import pytest
from deployed_models import CLASSIFIER, classifier, publish
from hypothesis import given
from hypothesis import strategies as st

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.numerics import quantize
from axforge.axruntime.deployed.opening import open_deployed
from axforge.axruntime.engines.factory import engine_for
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.feeding import CodeFeeder
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.layout import InputLayout
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.scratch import FrameMemory
from axforge.axruntime.pipeline.step import PreStep

IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
#: Ways to a size, colours, and values.
SPATIAL: tuple[tuple[PreStep, ...], ...] = (
    (),
    (Resize(width=64, height=48),),
    (Resize(width=64, height=64, letterbox=True),),
    (Resize(width=80, height=64, letterbox=True, position="top-left", interpolation="nearest"),),
    (Resize(size=40, interpolation="area"), CenterCrop(width=32, height=32)),
    (Resize(width=64, height=64, letterbox=True, antialias=True), CenterCrop(width=60, height=50)),
    (CenterCrop(width=20, height=20), Resize(width=64, height=33, letterbox=True, pad_value=0)),
)
COLOURS: tuple[tuple[PreStep, ...], ...] = ((), (ConvertColor(to="BGR"),), (ConvertColor(to="GRAY"),))
VALUES: tuple[tuple[PreStep, ...], ...] = (
    (),
    (Normalize(),),
    (Normalize(divisor=1),),
    (Normalize(mean=127, std=128, divisor=1), Normalize(divisor=2)),
)
QUANTS = ((1 / 255, -128), (1.0, -128), (0.0186, 3), (0.02, -128), (1e-3, 127), (0.5, 0))


@given(
    st.sampled_from(SPATIAL),
    st.sampled_from(COLOURS),
    st.sampled_from(VALUES),
    st.sampled_from(QUANTS),
    st.booleans(),
    st.tuples(st.integers(20, 90), st.integers(20, 90)),
    st.integers(0, 2**31),
)
def test_codes_are_those_of_the_long_way(
    spatial: tuple[PreStep, ...],
    colours: tuple[PreStep, ...],
    values: tuple[PreStep, ...],
    quant: tuple[float, int],
    last: bool,
    size: tuple[int, int],
    seed: int,
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    steps = (*((InputLayout(to="NHWC"),) if last else ()), *spatial, *colours, *values)
    assert_the_same(steps, image, quant)
    assert_the_same((*colours, *spatial, *values), image[:, ::-1], quant)


def assert_the_same(steps: tuple[PreStep, ...], image: np.ndarray, quant: tuple[float, int]) -> None:
    long, short = prepare(steps, image), CodeFeeder(steps, *quant)(image)
    assert short.tensor.dtype == np.int8
    assert np.array_equal(short.tensor, quantize(long.tensor, *quant))
    assert np.array_equal(short.picture, long.picture)
    assert short.geometry == long.geometry


def test_each_channel_has_its_own_table() -> None:
    image = np.random.default_rng(1).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    letterbox = Resize(width=64, height=64, letterbox=True)
    for steps in ((letterbox, IMAGENET), (letterbox, ConvertColor(to="BGR"), IMAGENET), (InputLayout(to="NHWC"), letterbox, IMAGENET)):
        assert_the_same(steps, image, (0.0186, -13))


def test_a_letterbox_of_a_picture_that_has_its_size() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert_the_same((Resize(width=64, height=64, letterbox=True), Normalize()), image, (1 / 255, -128))


def test_a_step_behind_the_values_goes_the_long_way() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    steps = (IMAGENET, Resize(width=16, height=16))
    found = CodeFeeder(steps, 0.02, 0)(image)
    assert found.tensor.dtype == np.float32
    assert np.array_equal(found.tensor, prepare(steps, image).tensor)


@pytest.mark.parametrize(
    "image", [np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 30), np.arange(900, dtype=np.uint8).reshape(10, 10, 9)]
)
def test_what_is_not_a_picture_of_bytes_goes_the_long_way(image: np.ndarray) -> None:
    found = CodeFeeder((Normalize(),), 1 / 255, -128)(image)
    assert found.tensor.dtype == np.float32
    assert np.array_equal(found.tensor, prepare((Normalize(),), image).tensor)


def test_mistakes_have_the_sentence_of_the_long_way() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(AxforgeError, match="2 numbers are given for a picture of 3 channels"):
        CodeFeeder((Normalize(mean=(1.0, 2.0)),), 1.0, 0)(image)
    with pytest.raises(AxforgeError, match="does not fit into a picture of 10x10"):
        CodeFeeder((CenterCrop(width=20, height=20),), 1.0, 0)(image)


@pytest.mark.parametrize("name", ["aipu-host", "sim", "reference"])
def test_engines_say_the_same_of_codes_and_of_floats(name: str, tmp_path: Path) -> None:
    deployed = open_deployed(publish(classifier(), CLASSIFIER, tmp_path / "tiny"))
    assert deployed.descriptor is not None
    engine = engine_for(name, deployed.model)
    pipeline = Pipeline(deployed.descriptor, engine)
    image = np.random.default_rng(5).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    short = pipeline.prepare(image)
    assert short.tensor.dtype == np.int8
    long = pipeline.infer(prepare(deployed.descriptor.preprocessing, image))
    assert all(np.array_equal(value, long[output]) for output, value in pipeline.infer(short).items())


def test_memory_of_a_frame_is_used_again_only_when_nobody_holds_it() -> None:
    scratch = FrameMemory()
    first = scratch.take((4, 4, 3))
    view = first[1:3].view(np.int8)
    where = first.ctypes.data
    del first
    assert scratch.take((4, 4, 3)).ctypes.data != where
    del view
    assert scratch.take((5, 4, 3)).ctypes.data != where
    assert where in {array.ctypes.data for array in [scratch.take((4, 4, 3)) for _ in range(2)]}


def test_results_of_earlier_frames_stay_as_they_are() -> None:
    steps = (Resize(width=64, height=64, letterbox=True), Normalize())
    feeder = CodeFeeder(steps, 1 / 255, -128)
    images = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8) for i in range(40)]
    kept = [feeder(image) for image in images]
    for image, prepared in zip(images, kept, strict=True):
        again = prepare(steps, image)
        assert np.array_equal(prepared.tensor, quantize(again.tensor, 1 / 255, -128))
        assert np.array_equal(prepared.picture, again.picture)
