"""decode_ssd against a scalar computation written from the SSD paper, and against a real network that decodes its boxes itself."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from axforge import ax_models
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.onnx import OnnxEngine
from axforge.axruntime.media.images import read_image
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.descriptor import load_descriptor, parse_descriptor
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.pipeline.postprocessing.ssd import DecodeSsd
from axforge.axruntime.pipeline.postprocessing.ultraface import DecodeUltraFace

ZOO = Path(ax_models.__file__).parent
WIDTH, HEIGHT = 96, 64
CONTEXT = DecoderContext(prepare((), np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
GRIDS = ((3, 2), (2, 1))
ANCHORS = ((0.2, 0.3, 0.5, 0.25), (0.6, 0.7, 0.4, 0.9, 0.8, 0.3))
COUNT = 3 * 2 * 2 + 2 * 1 * 3


def outputs(seed: int, columns: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "boxes": rng.normal(size=(1, COUNT, 4)).astype(np.float32) * 2,
        "scores": rng.normal(size=(1, COUNT, columns)).astype(np.float32) * 2,
    }


def by_hand(step: DecodeSsd, boxes: list[list[float]], scores: list[list[float]]) -> list[tuple[list[float], float, int]]:
    """(box in pixels, score, class) of what reaches the threshold, one number at a time."""
    expected, row = [], 0
    for (columns, rows), pairs in zip(GRIDS, ANCHORS, strict=True):
        for y in range(rows):
            for x in range(columns):
                for k in range(len(pairs) // 2):
                    w, h = pairs[2 * k], pairs[2 * k + 1]
                    tx, ty, tw, th = boxes[row] if step.order == "xy" else (boxes[row][i] for i in (1, 0, 3, 2))
                    cx = (x + 0.5) / columns + tx * step.variances[0] * w
                    cy = (y + 0.5) / rows + ty * step.variances[1] * h
                    bw, bh = w * math.exp(tw * step.variances[2]), h * math.exp(th * step.variances[3])
                    box = [(cx - bw / 2) * WIDTH, (cy - bh / 2) * HEIGHT, (cx + bw / 2) * WIDTH, (cy + bh / 2) * HEIGHT]
                    values = scores[row]
                    if step.activation == "softmax":
                        total = sum(math.exp(v) for v in values)
                        values = [math.exp(v) / total for v in values]
                    elif step.activation == "sigmoid":
                        values = [1 / (1 + math.exp(-v)) for v in values]
                    values = values[1:] if step.background else values
                    best = max(values)
                    if best >= step.confidence_threshold:
                        expected.append((box, best, values.index(best)))
                    row += 1
    return expected


@given(
    seed=st.integers(0, 10_000),
    order=st.sampled_from(["xy", "yx"]),
    activation=st.sampled_from(["none", "softmax", "sigmoid"]),
    background=st.booleans(),
)
def test_boxes_are_those_of_the_paper(seed: int, order: Any, activation: Any, background: bool) -> None:
    variances = (0.1, 0.15, 0.2, 0.25)
    step = DecodeSsd(
        classes=3, anchors=ANCHORS, grids=GRIDS, variances=variances, order=order, activation=activation, background=background
    )
    given_ = outputs(seed, 3 + background)
    expected = by_hand(step, given_["boxes"][0].tolist(), given_["scores"][0].tolist())
    found = step(given_, CONTEXT)
    assert found.class_ids.tolist() == [class_id for _, _, class_id in expected]
    np.testing.assert_allclose(found.scores, [score for _, score, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, np.reshape([box for box, _, _ in expected], (-1, 4)), rtol=1e-4, atol=1e-3)


def test_without_anchors_boxes_are_corners_already() -> None:
    given_ = {"b": np.float32([[[0.25, 0.5, 0.75, 1.0], [0, 0, 1, 1]]]), "s": np.float32([[[0.1, 0.9], [0.8, 0.2]]])}
    found = DecodeSsd(classes=1, boxes="b", scores="s", confidence_threshold=0.5)(given_, CONTEXT)
    assert (found.boxes.tolist(), found.class_ids.tolist()) == ([[24, 32, 72, 64]], [0])
    turned = DecodeSsd(classes=1, boxes="b", scores="s", order="yx", confidence_threshold=0.5)(given_, CONTEXT)
    assert turned.boxes.tolist() == [[48, 16, 96, 48]]


def test_a_real_network_that_decodes_its_boxes_gives_the_same_as_with_its_own_decoder(shared: Path) -> None:
    descriptor = load_descriptor(ZOO / "ultraface_rfb320" / "model.json")
    assert descriptor.source is not None
    assert descriptor.source.file is not None
    pipeline = Pipeline(descriptor, OnnxEngine(shared / descriptor.source.file, threads=1))
    prepared = prepare(descriptor.preprocessing, read_image(shared / "images" / "crowd.jpg"))
    results = pipeline.infer(prepared)
    own, ssd = (step(results, DecoderContext(prepared)) for step in (DecodeUltraFace(), DecodeSsd(classes=1)))
    assert isinstance(ssd, Candidates)
    assert len(own.scores) > 20
    for name in ("boxes", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(own, name), getattr(ssd, name))


@pytest.mark.parametrize(
    ("step", "given_", "message"),
    [
        (DecodeSsd(classes=3), outputs(0, 3), r"takes \[1, N, 4\] with boxes"),
        (DecodeSsd(classes=3, scores="conf"), outputs(0, 4), "no output 'conf'"),
        (DecodeSsd(classes=3, anchors=((0.1, 0.1),), grids=((3, 2),)), outputs(0, 4), r"takes \[1, 6, 4\]: one box for each anchor"),
    ],
)
def test_outputs_that_do_not_fit_are_answered_with_a_sentence(step: DecodeSsd, given_: Any, message: str) -> None:
    with pytest.raises(AxforgeError, match=message) as caught:
        step(given_, CONTEXT)
    assert caught.value.where == "postprocessing: decode_ssd"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"anchors": [[0.1, 0.1]]}, "give both for each map"),
        ({"anchors": [[0.1, 0.1, 0.2]], "grids": [[2, 2]]}, "pairs above 0"),
        ({"anchors": [[0.1, 0]], "grids": [[2, 2]]}, "pairs above 0"),
        ({"variances": [0.1, 0.2]}, "length >= 4"),
    ],
)
def test_parameters_that_do_not_fit_are_named_with_their_place(parameters: dict[str, Any], message: str) -> None:
    step = {"type": "decode_ssd", "classes": 3, **parameters}
    document = {"name": "n", "preprocessing": [], "postprocessing": [step]}
    with pytest.raises(AxforgeError) as caught:
        parse_descriptor(json.dumps(document).encode(), "model.json")
    assert message in caught.value.what
    assert caught.value.where.startswith("model.json: postprocessing[0]")
