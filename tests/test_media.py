"""Sources give what was asked for or say what is wrong; sinks are complete or absent."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from axforge import ax_models
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.evaluate.datasets import Dataset, open_dataset
from axforge.axruntime.media import samples
from axforge.axruntime.media.images import read_image, write_image
from axforge.axruntime.media.opening import open_sink, open_source
from axforge.axruntime.media.sinks.json_document import result_document, write_json
from axforge.axruntime.media.sinks.videos import VideoWriter
from axforge.axruntime.media.source import Frame
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.pipeline.descriptor import load_descriptor
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.drawing import class_colour, ink_on
from axforge.axruntime.results.picture import Picture
from axforge.axruntime.results.result import annotate
from axforge.axruntime.results.segmentation import Segmentation
from axforge.axruntime.results.tensors import Tensors

ZOO = Path(ax_models.__file__).parent
PICTURE = fake_picture(160, 120, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.jpg", "c.bmp"):
        write_image(tmp_path / name, PICTURE)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


def names(text: str, frames: int | None = None) -> list[str]:
    return [frame.name for frame in open_source(text, frames=frames)]


def test_a_folder_gives_its_pictures_by_name(folder: Path) -> None:
    assert names(str(folder)) == ["a.jpg", "b.png", "c.bmp"]
    assert names(str(folder), frames=2) == ["a.jpg", "b.png"]
    assert names(str(folder / "*.[jb]*")) == ["a.jpg", "c.bmp"]
    assert open_source(str(folder)).total == 3


def test_lossless_pictures_come_back_as_they_were(folder: Path) -> None:
    for name in ("b.png", "c.bmp"):
        assert np.array_equal(read_image(folder / name), PICTURE)


def test_a_source_may_be_read_twice(folder: Path) -> None:
    source = open_source(str(folder))
    assert [f.name for f in source] == [f.name for f in source]


def test_a_picture_of_20000_by_20000_is_answered_by_its_size_and_one_pixel_is_a_picture(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "large.png").write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    with pytest.raises(AxforgeError, match="it has 400 million pixels, and at most 179 million are decoded"):
        read_image(tmp_path / "large.png")
    write_image(tmp_path / "dot.png", PICTURE[:1, :1])
    assert np.array_equal(read_image(tmp_path / "dot.png"), PICTURE[:1, :1])


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.fromarray(PICTURE)
    exif = image.getexif()
    exif[0x0112] = 6  # turn right
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(PICTURE, -1))


def test_pictures_of_every_mode_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "1", "CMYK"):
        path = tmp_path / f"{mode}.tif"
        Image.fromarray(PICTURE).convert(mode).save(path)
        assert read_image(path).shape == PICTURE.shape
    deep = (PICTURE[:, :, 0].astype(np.uint16) << 8) + 17
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png")[:, :, 1], PICTURE[:, :, 0])


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.97])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_a_truncated_picture_is_an_error_that_names_it(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, PICTURE)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(AxforgeError, match="damaged or not a picture") as caught:
        read_image(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample:nobody", "Known here: .*grace_hopper"),
        ("grace_hopper.jpg", "Did you mean sample:grace_hopper"),
        ("nowhere/nothing.jpg", "no such file or folder"),
        ("nowhere/*.jpg", "no picture matches"),
        ("fakevideo:640", "WIDTHxHEIGHT"),
        ("fakevideo:0x10", "WIDTHxHEIGHT"),
        ("fakevideo:99999x10", "WIDTHxHEIGHT"),
        ("usb:front", "named by its number"),
        ("rtsp:nonsense", "not an rtsp address"),
        ("dataset", "only a model has a dataset"),
    ],
)
def test_what_names_no_source_is_answered_with_a_sentence(text: str, message: str) -> None:
    with pytest.raises(AxforgeError, match=message):
        open_source(text)


def test_no_frames_is_too_few() -> None:
    with pytest.raises(AxforgeError, match="0 frames are too few"):
        open_source("fakevideo:8x8", frames=0)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AxforgeError, match="no pictures"):
        open_source(str(tmp_path))


def test_samples_are_photos_of_installed_packages() -> None:
    assert "grace_hopper" in samples.sample_names()
    image = next(iter(open_source("sample:grace_hopper"))).image
    assert image.shape == (600, 512, 3)
    absent = sorted(set(samples._PHOTOS) - set(samples.sample_names()))
    for name in absent:
        with pytest.raises(AxforgeError, match="not installed"):
            samples.sample_path(name)


def test_a_fake_video_moves_and_is_the_same_each_time() -> None:
    first, second = (list(open_source("fakevideo:64x48", frames=3)) for _ in range(2))
    assert [f.image.shape for f in first] == [(48, 64, 3)] * 3
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].image, first[1].image)


def test_a_written_video_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "v.mp4"
    video = VideoWriter(path, 25.0)
    for frame in open_source("fakevideo:65x49", frames=7):  # odd sizes: the encoder takes even ones
        video.write(frame.image)
    assert not path.exists(), "the file appears when it is complete"
    video.close()
    source = open_source(str(path))
    frames = list(source)
    assert (source.total, source.fps, len(frames)) == (7, 25.0, 7)
    assert np.abs(frames[0].image.astype(int) - cv2.resize(fake_picture(65, 49, 0), (64, 48), interpolation=cv2.INTER_AREA)).mean() < 20
    assert [p.name for p in path.parent.iterdir()] == ["v.mp4"]


def test_a_video_that_breaks_off_is_a_video_of_the_frames_until_then(tmp_path: Path) -> None:
    def fail() -> None:
        source = open_source("fakevideo:64x48", frames=9)
        with open_sink(tmp_path / "v.mp4", source, {}) as sink:
            for frame in source:
                sink.add(frame, Tensors({}))
                if frame.index == 6:
                    raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
    assert len(list(open_source(str(tmp_path / "v.mp4")))) == 7


@pytest.mark.parametrize("name", ["v.mp4", "r.json", "r.jsonl", "r.csv"])
def test_a_run_that_breaks_off_before_its_first_result_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError), open_sink(tmp_path / name, open_source("fakevideo:8x8", frames=1), {}):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(AxforgeError, match="cannot be opened"):
        open_source(str(tmp_path / "v.mp4"))
    with pytest.raises(AxforgeError, match=r"Use \.mp4"):
        VideoWriter(tmp_path / "v.xyz", 25.0)


def test_a_dataset_is_a_source(shared: Path) -> None:
    def of(model: str) -> Callable[[str | None], Dataset]:
        descriptor = load_descriptor(ZOO / model / "model.json")
        return lambda split: open_dataset(descriptor, shared, split)

    frames = list(open_source("dataset", dataset=of("ds_cnn_kws"), frames=3))
    assert [f.name for f in frames] == [f"ds_cnn_kws_mfcc[{i}]" for i in range(3)]
    assert frames[0].image.shape == (49, 10)
    assert open_source("dataset:train2017", dataset=of("yolox_nano")).total == 128
    with pytest.raises(AxforgeError, match="Splits that are there: train2017, val2017"):
        open_source("dataset:test", dataset=of("yolox_nano"))


def test_json_keeps_every_digit(tmp_path: Path) -> None:
    boxes = np.random.default_rng(0).random((3, 4)) * 1000
    scores = np.random.default_rng(1).random(3)
    found = Detections(boxes, scores, np.array([0, 1, 2]), ("a", "b", "ü"))
    write_json(tmp_path / "r.json", result_document(Frame(4, "x.jpg", PICTURE), found))
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (document["frame"], document["source"], document["width"], document["height"]) == (4, "x.jpg", 160, 120)
    rows = document["result"]["detections"]
    assert [row["box"] for row in rows] == boxes.tolist()
    assert [row["score"] for row in rows] == scores.tolist()
    assert rows[2]["label"] == "ü"


def test_json_stays_json_when_a_network_gives_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", Tensors({"y": np.array([1.5, np.nan, -np.inf])}).as_json())
    assert json.loads((tmp_path / "r.json").read_text())["tensors"]["y"]["values"] == [1.5, None, None]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (lambda p: write_json(p / "r.json", {}), lambda p: write_image(p / "r.png", PICTURE)):
        with pytest.raises(AxforgeError, match="cannot be written"):
            write(tmp_path / "file")
    with pytest.raises(AxforgeError, match=r"cannot be written as '\.txt'"):
        write_image(tmp_path / "r.txt", PICTURE)


def test_boxes_are_drawn_where_they_are() -> None:
    ground = np.zeros((100, 100, 3), np.uint8)
    found = Detections(np.array([[20.0, 30, 80, 90]]), np.array([0.9]), np.array([5]), ("bus",))
    drawn = annotate(ground, found)
    assert drawn.shape == ground.shape
    assert tuple(drawn[60, 20]) == tuple(drawn[90, 50]) == class_colour(5)
    assert tuple(drawn[60, 50]) == (0, 0, 0)
    assert (ground == 0).all(), "the source picture stays as it is"


def test_a_label_is_legible_on_its_colour() -> None:
    def luminance(colour: tuple[int, int, int]) -> float:
        r, g, b = (((c / 255 + 0.055) / 1.055) ** 2.4 if c / 255 > 0.03928 else c / 255 / 12.92 for c in colour)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for class_id in range(100):
        paper, ink = luminance(class_colour(class_id)), luminance(ink_on(class_colour(class_id)))
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 3.5


def test_classes_stand_below_the_whole_picture() -> None:
    drawn = annotate(PICTURE, Classification((1, 2), (0.7, 0.2), ("cat", "dog")))
    height, width = PICTURE.shape[:2]
    left = (drawn.shape[1] - width) // 2
    assert drawn.shape[0] > height
    assert np.array_equal(drawn[:height, left : left + width], PICTURE)
    assert (drawn[height:] > 200).any(), "there is text"


def test_a_segmentation_tints_its_objects_only() -> None:
    mask = np.zeros(PICTURE.shape[:2], np.uint8)
    mask[30:60, 40:90] = 15
    drawn = annotate(PICTURE, Segmentation(mask, ("",) * 21))
    left = (drawn.shape[1] - 160) // 2
    shown = drawn[:120, left : left + 160]
    assert np.array_equal(shown[mask == 0], PICTURE[mask == 0])
    assert (shown[mask == 15] != PICTURE[mask == 15]).any(axis=1).mean() > 0.95


def test_a_picture_result_is_the_picture_and_features_get_a_ground() -> None:
    assert annotate(PICTURE, Picture(PICTURE[::-1], PICTURE[:, :, 0])) is not None
    assert np.array_equal(annotate(PICTURE, Picture(PICTURE[::-1], PICTURE[:, :, 0])), PICTURE[::-1])
    features = np.arange(-245, 245, dtype=np.int16).reshape(49, 10)
    assert annotate(features, Tensors({})).shape == (49 * 6, 10 * 6, 3)


def test_a_sink_is_chosen_by_the_suffix_and_writes_pictures_where_a_video_does_not_fit(folder: Path, tmp_path: Path) -> None:
    many, one, video = open_source(str(folder)), open_source(str(folder / "b.png")), open_source("fakevideo:8x8", frames=2)
    result = Classification((1,), (0.5,), ("cat",))
    for path, source in ((tmp_path / "o" / "x.mp4", many), (tmp_path / "o" / "y.png", one), (tmp_path / "o" / "r.json", video)):
        with open_sink(path, source, {"model": "m"}) as sink:
            for frame in source:
                sink.add(frame, result)
    written = sorted(p.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("*") if p.is_file())
    assert written == ["r.json", "x/a.png", "x/b.png", "x/c.png", "y.png"]
    document = json.loads((tmp_path / "o" / "r.json").read_text())
    assert (document["model"], len(document["frames"])) == ("m", 2)
    with pytest.raises(AxforgeError, match="A video cannot be written as a picture"):
        open_sink(tmp_path / "x.png", video, {})


def test_what_is_not_there_is_answered_with_what_a_source_may_be() -> None:
    with pytest.raises(AxforgeError) as caught:
        open_source("nowhere")
    for form in ("a picture", "a video", "sample:NAME", "fakevideo:WxH", "dataset", "usb:N", "rtsp://"):
        assert form in caught.value.fix
