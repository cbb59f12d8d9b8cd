"""Text detection and recognition, against the package rapidocr-onnxruntime where installed, and against answers known by construction."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.numerics import quantize
from axforge.axruntime.pipeline import labels, steps
from axforge.axruntime.pipeline.calibration import calibration_samples, feeds, load_sample
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import finish, prepare
from axforge.axruntime.pipeline.descriptor import parse_descriptor
from axforge.axruntime.pipeline.feeding import CodeFeeder
from axforge.axruntime.pipeline.postprocessing.ctc import DecodeCtc
from axforge.axruntime.pipeline.postprocessing.db_text import DecodeDbText
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.preprocessing.text_line import TextLine
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult, annotate
from axforge.axruntime.results.text import Text

Floats = NDArray[Any]
RAPID = importlib.util.find_spec("rapidocr_onnxruntime")
needs_rapid = pytest.mark.skipif(RAPID is None, reason="compares with the package rapidocr-onnxruntime, which is not installed")


def context(height: int, width: int, names: tuple[str, ...] = ("text",)) -> DecoderContext:
    return DecoderContext(prepare((), np.zeros((height, width, 3), np.uint8)), names)


def page(lines: list[tuple[str, tuple[int, int], int]], width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """A page with lines of text: (text, place, degrees by which it is turned)."""
    canvas = Image.new("RGB", (width, height), (250, 250, 245))
    for text, place, degrees in lines:
        strip = Image.new("L", (560, 60), 0)
        ImageDraw.Draw(strip).text((8, 8), text, font=ImageFont.load_default(30), fill=255)
        strip = strip.crop(strip.getbbox()).rotate(degrees, expand=True, resample=Image.Resampling.BICUBIC)
        canvas.paste((20, 20, 60), place, strip)
    return np.asarray(canvas)


def bars(*rectangles: tuple[tuple[float, float], tuple[float, float], float]) -> Floats:
    """A map [1, 1, 120, 160] that is 0.9 in turned rectangles (centre, size, angle)."""
    plane = np.full((120, 160), 0.05, np.float32)
    for rectangle in rectangles:
        cv2.fillPoly(plane, [np.rint(cv2.boxPoints(rectangle)).astype(np.int32)], 0.9)
    return plane[np.newaxis, np.newaxis]


def test_a_core_grows_to_the_line_around_it() -> None:
    found = DecodeDbText(unclip=1.5)({"map": bars(((70, 40), (80, 10), 0))}, context(120, 160))
    grown = 80 * 10 * 1.5 / (2 * 90)
    assert found.polygons is not None
    expected = [[30 - grown, 35 - grown], [110 + grown, 35 - grown], [110 + grown, 45 + grown], [30 - grown, 45 + grown]]
    np.testing.assert_allclose(found.polygons[0], np.array(expected) + 0.5, atol=0.2)
    np.testing.assert_allclose(found.boxes[0], [*found.polygons[0].min(axis=0), *found.polygons[0].max(axis=0)])
    assert found.scores == pytest.approx([0.9])


def test_a_map_that_is_smaller_than_the_picture_gives_pixels_of_the_picture() -> None:
    whole = DecodeDbText()({"map": bars(((70, 40), (80, 10), 0))}, context(120, 160))
    double = DecodeDbText()({"map": bars(((70, 40), (80, 10), 0))}, context(240, 320))
    np.testing.assert_allclose(double.boxes, whole.boxes * 2, rtol=1e-6)


def test_a_turned_line_keeps_its_angle_and_begins_at_the_top_left() -> None:
    found = DecodeDbText()({"map": bars(((80, 60), (90, 12), 20))}, context(120, 160))
    assert found.polygons is not None
    first, second = found.polygons[0][:2]
    assert np.degrees(np.arctan2(*(second - first)[::-1])) == pytest.approx(20, abs=1.5)
    upright = DecodeDbText(upright=True)({"map": bars(((80, 60), (90, 12), 20))}, context(120, 160))
    assert upright.polygons is None
    np.testing.assert_allclose(upright.boxes, found.boxes)


def test_noise_and_unsure_cores_give_nothing() -> None:
    specks = np.zeros((1, 1, 64, 64), np.float32)
    specks[0, 0, ::9, ::9] = 1
    assert len(DecodeDbText()({"map": specks}, context(64, 64)).boxes) == 0
    assert len(DecodeDbText()({"map": np.full((1, 1, 64, 64), np.nan, np.float32)}, context(64, 64)).boxes) == 0
    assert len(DecodeDbText()({"map": np.ones((1, 1, 1, 1), np.float32)}, context(1, 1)).boxes) == 0
    map_ = bars(((70, 40), (80, 10), 0)) * 0.5
    assert len(DecodeDbText(confidence_threshold=0.5)({"map": map_}, context(120, 160)).boxes) == 0
    assert len(DecodeDbText(confidence_threshold=0.4)({"map": map_}, context(120, 160)).boxes) == 1


def test_near_cores_are_joined_where_that_is_asked_for() -> None:
    map_ = bars(((50, 40), (40, 10), 0))
    map_[0, 0, :, 50] = 0
    assert len(DecodeDbText()({"map": map_}, context(120, 160)).boxes) == 2
    assert len(DecodeDbText(dilate=True)({"map": map_}, context(120, 160)).boxes) == 1


def test_boxes_of_text_come_back_in_pixels_of_the_source() -> None:
    prepared = prepare((Resize(width=160, height=120, letterbox=True),), np.zeros((480, 320, 3), np.uint8))
    result = finish((DecodeDbText(),), {"map": bars(((80, 60), (60, 8), 0))}, DecoderContext(prepared, ("text",)))
    assert isinstance(result, Detections)
    assert result.labels == ("text",)
    assert result.polygons is not None
    middle = result.polygons[0].mean(axis=0)
    np.testing.assert_allclose(middle, ((80.5 - 40) * 4, 60.5 * 4), atol=1)


def test_repeats_and_blanks_are_left_out() -> None:
    rows = np.full((1, 8, 5), 0.02, np.float32)
    for step, (class_id, p) in enumerate([(1, 0.9), (1, 0.5), (0, 0.9), (1, 0.8), (2, 0.7), (4, 0.6), (3, 0.9), (3, 0.4)]):
        rows[0, step, class_id] = p
    found = DecodeCtc(space=True)({"y": rows}, context(8, 32, ("a", "b", "c")))
    assert found.text == "aab c"
    assert found.scores == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.9])
    assert found.score == pytest.approx(0.78)
    for shape in ((8, 1, 5), (8, 5)):
        assert DecodeCtc(space=True)({"y": rows.reshape(shape)}, context(8, 32, ("a", "b", "c"))).text == "aab c"
    last = np.roll(rows, -1, axis=2)
    assert DecodeCtc(space=True, blank="last")({"y": last}, context(8, 32, ("a", "b", "c"))).text == "aab c"


def test_logits_get_a_softmax() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 12, 7)).astype(np.float32) * 4
    p = np.exp(rows) / np.exp(rows).sum(axis=2, keepdims=True)
    names = tuple("abcdef")
    ours, theirs = DecodeCtc(logits=True)({"y": rows}, context(8, 32, names)), DecodeCtc()({"y": p}, context(8, 32, names))
    assert ours.text == theirs.text != ""
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5)


def test_a_result_of_text_says_what_was_read() -> None:
    found = Text("Mind the gap", (0.9, 0.7))
    assert (found.brief(), found.seen(), found.score) == ("Mind the gap", ("Mind the gap",), pytest.approx(0.8))
    assert found.as_json() == {"type": "text", "text": "Mind the gap", "score": pytest.approx(0.8), "character_scores": [0.9, 0.7]}
    assert found.table().texts() == [["Mind the gap", "0.800"]]
    assert annotate(np.zeros((48, 320, 3), np.uint8), found).shape[0] > 48
    nothing = Text("")
    assert (nothing.brief(), list(nothing.seen()), nothing.table().rows, nothing.score) == ("no text", [], (), 0.0)


@pytest.mark.parametrize(
    ("decoder", "shape", "picture", "names", "said"),
    [
        (DecodeCtc(), (1, 40, 30), (48, 320), ("a", "b"), ["30 classes", "the blank, 2 labels make 3", "Correct `labels`"]),
        (DecodeCtc(), (1, 40, 4), (48, 320), ("a", "b"), ['write "space": true']),
        (DecodeCtc(space=True), (1, 40, 3), (48, 320), ("a", "b"), ["2 labels and the space make 4", 'write "space": false']),
        (DecodeCtc(), (1, 1, 48, 320), (48, 320), ("a",), ["[1, 1, 48, 320]", "takes [1, steps, classes]", "decode_db_text would fit"]),
        (DecodeCtc(), (1, 40, 1), (48, 320), (), ["takes [1, steps, classes]"]),
        (DecodeDbText(), (1, 40, 97), (48, 320), (), ["takes [1, 1, H, W]", "decode_ctc would fit"]),
        (DecodeDbText(), (1, 84, 8400), (640, 640), (), ["takes [1, 1, H, W]", "decode_yolov8 would fit"]),
        (DecodeDbText(), (1, 2, 64, 64), (64, 64), (), ["takes [1, 1, H, W]", "semantic_segmentation would fit"]),
        (TopK(), (1, 40, 97), (48, 320), (), ["decode_ctc would fit"]),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    decoder: Any, shape: tuple[int, ...], picture: tuple[int, int], names: tuple[str, ...], said: list[str]
) -> None:
    assert steps.POST_STEPS["decode_ctc"] is DecodeCtc
    with pytest.raises(AxforgeError) as error:
        finish((decoder,), {"y": np.full(shape, 0.1, np.float32)}, context(*picture, names))
    for words in said:
        assert words in str(error.value)


def test_a_file_of_labels_may_name_an_ideographic_space() -> None:
    assert labels.parse("a\n\u3000\n\n b\r\n".encode(), "x") == ("a", "\u3000", "b")


@pytest.mark.parametrize(("width", "height"), [(100, 20), (1000, 20), (1, 1), (3, 900)])
def test_a_line_keeps_its_proportions_until_it_is_too_long(width: int, height: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    prepared = prepare((TextLine(width=320, height=48, pad_value=127),), image)
    wide = min(320, max(1, -(-48 * width // height)))
    assert prepared.tensor.shape == (1, 3, 48, 320)
    np.testing.assert_array_equal(prepared.tensor[0, :, :, :wide].transpose(1, 2, 0), cv2.resize(image, (wide, 48)))
    assert (prepared.tensor[0, :, :, wide:] == 127).all()
    grey = prepare((TextLine(width=320, height=48), ConvertColor(to="GRAY")), image)
    assert grey.tensor.shape == (1, 1, 48, 320)
    codes = CodeFeeder((TextLine(width=320, height=48), Normalize(mean=0.5, std=0.5)), 1 / 127, 0)(image)
    floats = prepare((TextLine(width=320, height=48), Normalize(mean=0.5, std=0.5)), image)
    np.testing.assert_array_equal(codes.tensor, quantize(floats.tensor, 1 / 127, 0))


def test_lines_to_calibrate_on_are_drawn_alike_each_time() -> None:
    document = {"name": "r", "preprocessing": [{"type": "text_line", "width": 320, "height": 48}]}
    document["calibration"] = {"path": "none", "count": 5, "samples": "text"}
    descriptor = parse_descriptor(json.dumps(document).encode(), "model.json")
    items = calibration_samples(descriptor, None)
    assert items == calibration_samples(descriptor, None)
    assert len({item.variant for item in items}) == 5
    for item in items:
        line = load_sample(item)
        np.testing.assert_array_equal(line, load_sample(item))
        assert line.shape[1] > line.shape[0]
        assert line.std() > 10
    fed = list(feeds(descriptor, items, {"x": ((1, 3, 48, 320), "float32")}))
    assert [feed["x"].shape for feed in fed] == [(1, 3, 48, 320)] * 5


def rapid_model(name: str) -> str:
    assert RAPID is not None
    assert RAPID.origin is not None
    return str(Path(RAPID.origin).parent / "models" / name)


LINES = [
    ("Mind the gap 2026", (40, 30), 0),
    ("turned a little", (60, 120), 12),
    ("and the other way", (150, 270), -15),
    ("x", (500, 30), 0),
]


@needs_rapid
@pytest.mark.parametrize("dilate", [False, True])
def test_lines_are_found_where_another_implementation_finds_them(dilate: bool) -> None:
    """The map of the same network, PP-OCRv4's, decoded by both; theirs rounds corners to whole pixels, and offsets by polygon clipping."""
    from onnxruntime import InferenceSession
    from rapidocr_onnxruntime.ch_ppocr_det.utils import DBPostProcess

    picture = page(LINES)
    session = InferenceSession(rapid_model("ch_PP-OCRv4_det_infer.onnx"))
    feed = (picture[:, :, ::-1].astype(np.float32) / 255 - 0.5) / 0.5
    map_ = session.run(None, {session.get_inputs()[0].name: feed.transpose(2, 0, 1)[np.newaxis]})[0]
    theirs, scores = DBPostProcess(0.3, 0.5, 1000, 1.6, "fast", dilate)(map_, picture.shape[:2])
    found: Candidates = DecodeDbText(dilate=dilate)({"map": map_}, context(*picture.shape[:2]))
    assert found.polygons is not None
    assert len(found.polygons) == len(theirs) >= 3
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(np.clip(found.polygons - 0.5, 0, (640, 480)), theirs, atol=2)


@needs_rapid
def test_text_is_read_as_another_implementation_reads_it() -> None:
    from onnxruntime import InferenceSession
    from rapidocr_onnxruntime.ch_ppocr_rec.utils import CTCLabelDecode

    session = InferenceSession(rapid_model("ch_PP-OCRv4_rec_infer.onnx"))
    alphabet = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    for text in ("Mind the gap 2026", "hello, world", "Tel. 555-0199"):
        strip = page([(text, (6, 6), 0)], 320, 48)
        feed = (strip[:, :, ::-1].astype(np.float32) / 255 - 0.5) / 0.5
        rows = session.run(None, {session.get_inputs()[0].name: feed.transpose(2, 0, 1)[np.newaxis]})[0]
        found: PipelineResult = DecodeCtc(space=True)({"y": rows}, context(48, 320, tuple(alphabet)))
        ((theirs, score),) = CTCLabelDecode(character=list(alphabet))(rows)
        assert isinstance(found, Text)
        assert found.text == theirs
        assert found.score == pytest.approx(score, rel=1e-5)
        assert len(set(found.text) & set(text)) > 4
