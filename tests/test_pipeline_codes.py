"""Decoders that read int8 codes find the boxes that they find in the real numbers of these codes."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from deployed_models import publish
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, helper
from onnx_models import model

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.numerics import dequantize
from axforge.axruntime.deployed.opening import open_deployed
from axforge.axruntime.engines.factory import engine_for
from axforge.axruntime.pipeline.boxes import sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.codes import Codes, reaching
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.pipeline.postprocessing.transform_dequantize import TransformDequantize
from axforge.axruntime.pipeline.postprocessing.yolov5 import DecodeYolov5
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.step import BoxDecoder
from axforge.axruntime.results.tensors import Tensors

SIDE = 64
CONTEXT = DecoderContext(prepare((), np.zeros((SIDE, SIDE, 3), np.uint8)))


@given(st.floats(1e-4, 4), st.integers(-128, 127), st.floats(0, 1))
def test_the_threshold_among_integers_is_that_among_reals(scale: float, zero_point: int, threshold: float) -> None:
    values = np.arange(-128, 128).astype(np.int8)
    codes = Codes(values, float(np.float32(scale)), zero_point)
    assert np.array_equal(reaching(codes, sigmoid, threshold), sigmoid(codes.real()) >= threshold)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("step", [DecodeYolov8(classes=5), DecodeYolov5(classes=5)], ids=["v8", "v5"])
def test_boxes_are_the_same_either_way(step: BoxDecoder, threshold: float, multi_label: bool) -> None:
    step = msgspec.structs.replace(step, confidence_threshold=threshold, multi_label=multi_label)
    rng = np.random.default_rng(8)
    channels = 64 + 5 if isinstance(step, DecodeYolov8) else 3 * 10
    maps: dict[str, Any] = {}
    for name, stride in (("a", 8), ("b", 16), ("c", 32)):
        values = rng.integers(-128, 128, (1, channels, SIDE // stride, SIDE // stride)).astype(np.int8)
        maps[name] = Codes(values, float(np.float32(0.04)), int(rng.integers(-20, 90)))
    short = step.follow(maps, None, CONTEXT)
    long = step({name: codes.real() for name, codes in maps.items()}, CONTEXT)
    assert isinstance(short, Candidates)
    assert isinstance(long, Candidates)
    assert np.array_equal(short.boxes, long.boxes)
    assert np.array_equal(short.scores, long.scores)
    assert np.array_equal(short.class_ids, long.class_ids)
    assert (len(short.scores) == 0) == (threshold == 1.0)


def test_codes_of_a_wrong_shape_are_named() -> None:
    with pytest.raises(AxforgeError, match=r"has shape \[1, 12, 8, 8\]"):
        DecodeYolov8(classes=5).follow({"o": Codes(np.zeros((1, 12, 8, 8), np.int8), 1.0, 0)}, None, CONTEXT)


def test_without_a_decoder_codes_become_numbers() -> None:
    found = finish((), {"o": Codes(np.array([[3, 5]], np.int8), 0.5, 1)}, CONTEXT)
    assert isinstance(found, Tensors)
    assert found.values["o"].tolist() == [[1.0, 2.0]]


def raw_head() -> ModelProto:
    """[1, 3, 16, 16] -> [1, 4 * 2 + 2, 4, 4]: a convolution, whose output is quantized."""
    weights = {"w": np.random.default_rng(4).normal(0, 0.5, (10, 3, 4, 4)).astype(np.float32)}
    return model([helper.make_node("Conv", ["x", "w"], ["y"], "conv", strides=[4, 4])], {"x": [1, 3, 16, 16]}, ["y"], weights)


@pytest.mark.parametrize(
    "step, found",
    [
        (TransformDequantize(), [[[1.0, 2.0, 3.0]]]),
        (TransformDequantize(scale=0.5, zero_point=1), [[[1.0, 2.0, 3.0]]]),
        (TransformDequantize(outputs=("o",), transpose=(0, 2, 1)), [[[1.0], [2.0], [3.0]]]),
        (TransformDequantize(outputs=("o",)), [[[1.0, 2.0, 3.0]]]),
    ],
)
@pytest.mark.parametrize("coded", [True, False])
def test_outputs_are_dequantized_before_a_step_reads_them(step: TransformDequantize, found: list[Any], coded: bool) -> None:
    codes = np.array([[[3, 5, 7]]], np.int8)
    if not coded:  # of a graph that ends in 8-bit integers
        step = msgspec.structs.replace(step, scale=0.5, zero_point=1)
    result = finish((step,), {"o": Codes(codes, 0.5, 1) if coded else codes, "p": np.ones(2, np.float32)}, CONTEXT)
    assert isinstance(result, Tensors)
    assert result.values["o"].dtype == np.float32
    assert result.values["o"].tolist() == found


@pytest.mark.parametrize(
    "step, message",
    [
        (TransformDequantize(scale=0.25), r"`scale` is 0.25, and manifest.json says 0.5 for output 'o'"),
        (TransformDequantize(zero_point=2), r"`zero_point` is 2, and manifest.json says 1 for output 'o'"),
        (TransformDequantize(outputs=("x",)), r"the network has no output 'x'.*\n.*Its outputs are: o, q\."),
        (TransformDequantize(transpose=(0, 1)), r"\[0, 1\], which is not an order of the 3 axes of output 'o'"),
        (TransformDequantize(transpose=(0, 1, 1)), r"\[0, 1, 1\], which is not an order of the 3 axes"),
        (TransformDequantize(outputs=("q",)), r"output 'q' has type uint8, and no scale is known for it"),
    ],
)
def test_what_cannot_be_dequantized_is_a_sentence(step: TransformDequantize, message: str) -> None:
    outputs = {"o": Codes(np.array([[[3, 5, 7]]], np.int8), 0.5, 1), "q": np.zeros(3, np.uint8)}
    with pytest.raises(AxforgeError, match=message):
        finish((step,), outputs, CONTEXT)


def test_dequantizing_after_a_decoder_is_a_sentence() -> None:
    with pytest.raises(AxforgeError, match=r"which have been read before it(.|\n)*Put it first"):
        finish((DecodeYolov8(classes=1), TransformDequantize()), {"o": np.zeros((1, 5, 84), np.float32)}, CONTEXT)


@pytest.mark.parametrize("before", [[], [{"type": "transform_dequantize"}]])
@pytest.mark.parametrize("name", ["aipu-host", "sim", "reference"])
def test_an_engines_codes_reach_the_decoder(name: str, before: list[Any], tmp_path: Path) -> None:
    document = {
        "name": "raw",
        "preprocessing": [{"type": "resize", "width": 16, "height": 16}, {"type": "normalize", "mean": 0.5, "std": 0.25}],
        "postprocessing": [*before, {"type": "decode_yolov8", "classes": 2, "bins": 2, "confidence_threshold": 0.6}, {"type": "nms"}],
        "labels": ["left", "right"],
    }
    deployed = open_deployed(publish(raw_head(), document, tmp_path / "raw"))
    assert deployed.descriptor is not None
    engine = engine_for(name, deployed.model)
    pipeline = Pipeline(deployed.descriptor, engine)
    prepared = pipeline.prepare(np.random.default_rng(5).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    outputs = pipeline.infer(prepared)
    codes = outputs["y"]
    assert isinstance(codes, Codes)
    real = engine.run({"x": prepared.tensor})["y"]
    assert np.array_equal(dequantize(codes.values, codes.scale, codes.zero_point), real)
    assert pipeline.finish(outputs, prepared).as_json() == pipeline.finish({"y": real}, prepared).as_json()
    assert len(pipeline.finish(outputs, prepared).seen()) > 0
