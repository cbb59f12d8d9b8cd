"""What the smaller models of the zoo say, in fp32, about pictures and videos whose content is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from axforge import ax_models
from axforge.axruntime.engines.onnx import OnnxEngine
from axforge.axruntime.evaluate.metrics import psnr
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.pipeline.descriptor import load_descriptor
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.picture import Picture

ZOO = Path(ax_models.__file__).parent


def pipeline(name: str, shared: Path) -> Pipeline:
    descriptor = load_descriptor(ZOO / name / "model.json")
    assert descriptor.source is not None
    assert descriptor.source.file is not None
    return Pipeline(descriptor, OnnxEngine(shared / descriptor.source.file, threads=1))


@pytest.mark.parametrize(("picture", "person"), [("bus.jpg", True), ("bird_segmentation.bmp", False)])
def test_vww_says_whether_there_is_a_person(shared: Path, picture: str, person: bool) -> None:
    result = pipeline("vww_96", shared).run(next(iter(open_source(str(shared / "images" / picture)))).image)
    assert isinstance(result, Classification)
    assert result.labels[0] == ("person" if person else "no person")


def test_espcn_is_nearer_to_the_original_than_bicubic(shared: Path) -> None:
    original = next(iter(open_source(str(shared / "images" / "bus.jpg")))).image[100:772, 60:732]
    small = np.asarray(Image.fromarray(original).resize((224, 224), Image.Resampling.BILINEAR))  # as in its training
    result = pipeline("espcn_x3", shared).run(small)
    assert isinstance(result, Picture)
    truth = cv2.cvtColor(original, cv2.COLOR_RGB2GRAY) / 255
    bicubic = cv2.cvtColor(cv2.resize(small, (672, 672), interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY) / 255
    assert psnr(result.luminance, truth) > psnr(bicubic, truth) + 0.4
    assert np.abs(result.image.astype(int) - original).mean() < 15


def test_the_video_shows_two_to_three_bottles(shared: Path) -> None:
    model = pipeline("yolox_nano", shared)
    source = open_source(str(shared / "data" / "video" / "bottle-detection.mp4"), frames=20)
    assert (source.video, source.total) == (True, 20)
    counts = []
    for frame in source:
        result = model.run(frame.image)
        assert isinstance(result, Detections)
        counts.append(result.labels.count("bottle"))
    assert len(counts) == 20
    assert set(counts) <= {2, 3}


def test_the_whole_video_is_counted(shared: Path) -> None:
    assert open_source(str(shared / "data" / "video" / "bottle-detection.mp4")).total == 1189
