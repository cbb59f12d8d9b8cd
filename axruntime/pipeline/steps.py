"""The steps of a pipeline as `model.json` writes them: one struct a step, its fields the parameters. Light to import.

What each step does is in `preprocess.py`, `classify.py`, `detect.py`, `yolo.py`, `nms.py` and `dense.py`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Size = Annotated[int, Meta(ge=1, le=16384)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
PerChannel = float | Annotated[tuple[float, ...], Meta(min_length=1)]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What all steps are: read-only, and strict about their parameters."""


class Resize(Step, frozen=True, tag="resize"):
    """To `width` x `height`, or, with `size` alone, so that the shorter side has `size` pixels.

    letterbox: keep the proportions and fill what is left with `pad_value`; the picture lies at `position`.
    antialias: average over the source pixels that fall on one new pixel (as Pillow does), for large reductions.
    """

    width: Size | None = None
    height: Size | None = None
    size: Size | None = None
    letterbox: bool = False
    position: Literal["center", "top-left"] = "center"
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 114
    interpolation: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.width is None and self.height is None) or (self.width is None) != (self.height is None):
            raise ValueError("Give either `width` and `height`, or `size`")
        if self.letterbox and self.size is not None:
            raise ValueError("A letterbox needs `width` and `height`")
        if self.antialias and self.interpolation in ("nearest", "area"):
            raise ValueError(f"`antialias` means nothing with interpolation '{self.interpolation}'")


class CenterCrop(Step, frozen=True, tag="centercrop"):
    """The middle `width` x `height` pixels; the picture must be at least that large."""

    width: Size
    height: Size


class ConvertColor(Step, frozen=True, tag="convert_color"):
    """From RGB, which every source gives, to another order or to the one channel of luminance (GRAY: Y of JPEG's YCbCr)."""

    to: Literal["RGB", "BGR", "GRAY"]


class Normalize(Step, frozen=True, tag="normalize"):
    """(x / divisor - mean) / std, in float32; `mean` and `std` are one number or one a channel."""

    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    divisor: Annotated[float, Meta(gt=0)] = 255.0

    def __post_init__(self) -> None:
        if 0 in (self.std if isinstance(self.std, tuple) else (self.std,)):
            raise ValueError("`std` must not be 0")


class Layout(Step, frozen=True, tag="layout"):
    """The order of axes the network takes. Without this step: NCHW."""

    to: Literal["NCHW", "NHWC"]


class TopK(Step, frozen=True, tag="topk"):
    """The `k` most likely classes. softmax: the network gives logits. skip: leading outputs that are no class (background)."""

    k: Count = 5
    softmax: bool = False
    skip: Annotated[int, Meta(ge=0)] = 0


class Decode(Step, frozen=True, kw_only=True):
    """What decoders share. multi_label: a box counts for each of its classes above the threshold, not only for its best."""

    confidence_threshold: Share = 0.25
    multi_label: bool = False


class DecodeYolov5(Decode, frozen=True, tag="decode_yolov5"):
    """YOLOv5: [1, N, 5 + classes] as the exported head gives it, or its raw maps [1, 3 * (5 + classes), H, W].

    anchors: (width, height) pairs in pixels, three a map, finest map first; only raw maps need them.
    """

    classes: Count
    anchors: tuple[tuple[float, ...], ...] = (
        (10, 13, 16, 30, 33, 23),
        (30, 61, 62, 45, 59, 119),
        (116, 90, 156, 198, 373, 326),
    )


class DecodeYolov8(Decode, frozen=True, tag="decode_yolov8"):
    """YOLOv8 and its kin: [1, 4 + classes, N] as exported, or raw maps [1, 4 * bins + classes, H, W]."""

    classes: Count
    bins: Count = 16


class DecodeYolox(Decode, frozen=True, tag="decode_yolox"):
    """YOLOX: [1, N, 5 + classes], boxes relative to the cells of `strides`, finest first."""

    classes: Count
    strides: tuple[Count, ...] = (8, 16, 32)


class DecodeFastestDet(Decode, frozen=True, tag="decode_fastestdet"):
    """FastestDet: one map [1, 5 + classes, H, W]; score = objectness^0.6 * class^0.4."""

    classes: Count


class DecodeUltraFace(Decode, frozen=True, tag="decode_ultraface"):
    """UltraFace: scores [1, N, 2] and corners [1, N, 4] in 0..1, by the names of the outputs."""

    scores: str = "scores"
    boxes: str = "boxes"


class Nms(Step, frozen=True, tag="nms"):
    """Non-maximum suppression, class by class unless `class_agnostic`."""

    iou_threshold: Share = 0.45
    class_agnostic: bool = False
    max_candidates: Count = 30000
    max_detections: Count = 300


class SemanticSegmentation(Step, frozen=True, tag="semantic_segmentation"):
    """The likeliest class of each pixel, from [1, classes, H, W], at the size of the source picture."""


class SuperResolution(Step, frozen=True, tag="super_resolution"):
    """A larger picture from a larger luminance [1, 1, H, W] in 0..1 and the (bicubic) colour of the source."""


PreStep = Resize | CenterCrop | ConvertColor | Normalize | Layout
PostStep = (
    TopK | DecodeYolov5 | DecodeYolov8 | DecodeYolox | DecodeFastestDet | DecodeUltraFace | Nms | SemanticSegmentation | SuperResolution
)
