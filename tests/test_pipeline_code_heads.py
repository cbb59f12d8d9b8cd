"""Every decoder that reads int8 codes finds, in the codes and in their real numbers, the same boxes to the last bit."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axforge.axruntime.lazy import Array
from axforge.axruntime.pipeline.boxes import sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.codes import Codes, difference_reaching
from axforge.axruntime.pipeline.postprocessing.centernet import DecodeCenterNet
from axforge.axruntime.pipeline.postprocessing.nanodet import DecodeNanoDet
from axforge.axruntime.pipeline.postprocessing.retinaface import DecodeRetinaFace
from axforge.axruntime.pipeline.postprocessing.scrfd import DecodeScrfd
from axforge.axruntime.pipeline.postprocessing.ssd import DecodeSsd
from axforge.axruntime.pipeline.postprocessing.ultraface import DecodeUltraFace
from axforge.axruntime.pipeline.postprocessing.yolo_obb import DecodeYoloObb
from axforge.axruntime.pipeline.postprocessing.yolo_pose import DecodeYoloPose
from axforge.axruntime.pipeline.postprocessing.yolo_segmentation import DecodeYoloSegmentation
from axforge.axruntime.pipeline.postprocessing.yolov5 import DecodeYolov5
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.postprocessing.yolox import DecodeYolox
from axforge.axruntime.pipeline.postprocessing.yunet import DecodeYuNet
from axforge.axruntime.pipeline.step import BoxDecoder, registered

SIDE = 64
CONTEXT = DecoderContext(prepare((), np.zeros((SIDE, SIDE, 3), np.uint8)))
CELLS = [(SIDE // stride) ** 2 for stride in (8, 16, 32)]
SSD = {"anchors": ((0.1, 0.2, 0.3, 0.3), (0.5, 0.4)), "grids": ((8, 8), (4, 4))}
FACE = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
BARE = {"scores": (1, 90, 4), "boxes": (1, 90, 4)}
V5 = {"o": (1, 3 * sum(CELLS), 14), "p": (1, 4, 16, 16)}
ANCHORS = 2 * 64 + 16

#: A decoder with the shapes of its outputs.
HEADS: dict[str, tuple[BoxDecoder, Mapping[str, tuple[int, ...]]]] = {
    "yolov8": (DecodeYolov8(classes=5), {"o": (1, 9, sum(CELLS))}),
    "yolov8 end to end": (DecodeYolov8(classes=255), {"o": (1, 300, 6)}),
    "yolov5": (DecodeYolov5(classes=5), {"o": (1, 3 * sum(CELLS), 10)}),
    "yolox": (DecodeYolox(classes=5), {"o": (1, sum(CELLS), 10)}),
    "pose": (DecodeYoloPose(keypoints=3), {"o": (1, 14, sum(CELLS))}),
    "pose of two dimensions": (DecodeYoloPose(keypoints=3, dimensions=2), {"o": (1, 11, sum(CELLS))}),
    "obb": (DecodeYoloObb(classes=4), {"o": (1, 9, sum(CELLS))}),
    "obb end to end": (DecodeYoloObb(classes=255), {"o": (1, 300, 7)}),
    "segmentation": (DecodeYoloSegmentation(classes=5, masks=4), {"o": (1, 13, sum(CELLS)), "p": (1, 4, 16, 16)}),
    "segmentation of v5": (DecodeYoloSegmentation(classes=5, masks=4, objectness=True), V5),
    "nanodet": (DecodeNanoDet(classes=3), {"o": (1, sum(CELLS) + 1, 3 + 32)}),
    "retinaface": (DecodeRetinaFace(), {"b": (1, 2 * sum(CELLS), 4), "s": (1, 2 * sum(CELLS), 2), "k": (1, 2 * sum(CELLS), 10)}),
    "retinaface of logits": (DecodeRetinaFace(softmax=True), {"b": (1, 2 * sum(CELLS), 4), "s": (1, 2 * sum(CELLS), 2)}),
    "scrfd": (DecodeScrfd(), {f"{w}_{n}": (1, 2 * n, w) for n in CELLS for w in (1, 4, 10)}),
    "yunet": (DecodeYuNet(), {f"{n}_{s}": (1, (SIDE // s) ** 2, w) for s in (8, 16, 32) for n, w in FACE.items()}),
    "centernet": (DecodeCenterNet(classes=3), {"hm": (1, 3, 16, 16), "wh": (1, 2, 16, 16), "reg": (1, 2, 16, 16)}),
    "ultraface": (DecodeUltraFace(), {"scores": (1, 90, 2), "boxes": (1, 90, 4)}),
    "ssd": (DecodeSsd(classes=4), {"scores": (1, 90, 5), "boxes": (1, 90, 4)}),
    "ssd of anchors, softmax": (DecodeSsd(classes=4, activation="softmax", **SSD), {"scores": (1, ANCHORS, 5), "boxes": (1, ANCHORS, 4)}),
    "ssd, sigmoid, y first": (DecodeSsd(classes=4, activation="sigmoid", background=False, order="yx"), BARE),
    "ssd, softmax without background": (DecodeSsd(classes=4, activation="softmax", background=False), BARE),
}  # fmt: skip


def outputs(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Codes]:
    """Codes around shares and logits of usual size, each output with a scale of its own."""
    rng = np.random.default_rng(seed)

    def codes(shape: tuple[int, ...]) -> Codes:
        return Codes(
            rng.integers(-128, 128, shape).astype(np.int8), float(np.float32(rng.uniform(0.004, 0.03))), int(rng.integers(-128, 20))
        )

    return {name: codes(shape) for name, shape in shapes.items()}


def test_all_decoders_that_read_codes_are_here() -> None:
    reading = {step for step in registered(BoxDecoder).values() if step.reads_codes}
    assert {type(step) for step, _ in HEADS.values()} == reading


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", HEADS)
def test_boxes_are_the_same_to_the_last_bit(name: str, threshold: float, multi_label: bool) -> None:
    step = msgspec.structs.replace(HEADS[name][0], confidence_threshold=threshold, multi_label=multi_label)
    codes = outputs(HEADS[name][1], seed=len(name))
    if "end to end" in name:
        codes = {"o": Codes(np.maximum(codes["o"].values, 0), 1.0, 0)}  # classes are whole numbers
    real = {key: value.real() for key, value in codes.items()}
    short, long = step.follow(codes, None, CONTEXT), step(real, CONTEXT)
    some = step.follow({key: codes[key] if i % 2 else real[key] for i, key in enumerate(codes)}, None, CONTEXT)
    for found in (short, some):
        assert isinstance(found, Candidates)
        assert isinstance(long, Candidates)
        for field in Candidates.__struct_fields__:
            one, other = getattr(found, field), getattr(long, field)
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)), field
    assert threshold != 0.3 or len(long.scores), "no box reaches the threshold, so nothing was compared"


@pytest.mark.parametrize("name", ["ssd of anchors, softmax", "retinaface of logits", "yunet", "nanodet", "pose", "yolov5", "yolox"])
def test_nothing_that_the_whole_head_would_give_is_left_out(name: str) -> None:
    """Against the boxes of a threshold of 0, which leaves nothing out, chosen afterwards."""
    step, codes = HEADS[name][0], outputs(HEADS[name][1], seed=3)
    everything = msgspec.structs.replace(step, confidence_threshold=0.0).follow(codes, None, CONTEXT)
    assert isinstance(everything, Candidates)
    for threshold in np.unique(everything.scores)[:: max(1, len(everything.scores) // 40)]:
        found = msgspec.structs.replace(step, confidence_threshold=float(min(max(threshold, 0), 1))).follow(codes, None, CONTEXT)
        assert isinstance(found, Candidates)
        kept = everything.scores >= float(min(max(threshold, 0), 1))
        assert np.array_equal(found.boxes, everything.boxes[kept])
        assert np.array_equal(found.scores, everything.scores[kept])


@given(st.floats(1e-4, 4), st.integers(-128, 127), st.floats(0, 1))
def test_differences_of_codes_are_never_too_few(scale: float, zero_point: int, threshold: float) -> None:
    every = np.arange(-128, 128, dtype=np.int16).astype(np.int8)
    first, second = np.meshgrid(every, every)
    one, other = (Codes(values, float(np.float32(scale)), zero_point) for values in (first, second))
    got = difference_reaching(one, other, sigmoid, threshold)
    with np.errstate(over="ignore"):
        ways: list[Callable[[Array], Array]] = [sigmoid, lambda x: 1 / (1 + np.exp(-x))]
        for score in ways:
            assert not np.any((score(one.real() - other.real()) >= threshold) & ~got)
    most = sigmoid(one.real() - other.real() + np.float32(2 * scale)) >= threshold - 2e-5
    assert got.sum() <= most.sum() + 1  # the largest difference of all counts though it does not reach
