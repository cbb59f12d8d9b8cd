"""Sources of pictures: one function that understands what a user types, one small class a kind."""

import glob
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import images_in, is_image, is_video
from axforge.axruntime.media.images import read_image
from axforge.axruntime.media.samples import sample_names, sample_path
from axforge.axruntime.media.video import camera_frames, probe, video_frames
from axforge.axruntime.pipeline.descriptor import Descriptor

#: Frames of a source that never ends by itself, when nobody says how many.
DEFAULT_FRAMES = 100
_FAKE_SIZE = re.compile(r"^(\d{1,5})x(\d{1,5})$")
_KINDS = "a picture, a folder, a video, sample:NAME, fakevideo:WxH, dataset, usb:N, rtsp://… or http://…"


@dataclass(frozen=True)
class Frame:
    """image: uint8 RGB [H, W, 3], or the own array of a dataset that holds no pictures. name: without folder, unique in a source."""

    index: int
    name: str
    image: NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Frames in order; may be iterated again. total: how many, None where nobody knows. fps: of videos and cameras."""

    name: str
    total: int | None
    video: bool
    fps: float | None
    frames: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


def open_source(text: str, *, descriptor: Descriptor | None = None, data_root: Path | None = None, frames: int | None = None) -> Source:
    """The source that `text` names, at most `frames` frames of it.

    text: a picture, a folder or a glob of pictures, a video file, `sample:NAME`, `fakevideo:WxH`, `dataset[:SPLIT]`,
    `usb:N`, `rtsp://…`, `http(s)://…`. Raises AxforgeError when it names nothing, or nothing readable.
    """
    if frames is not None and frames < 1:
        raise AxforgeError(f"{frames} frames are too few", where=text, fix="Ask for at least 1.")
    kind, _, rest = text.partition(":")
    match kind:
        case "sample":
            return _pictures(text, [sample_path(rest)], frames)
        case "fakevideo":
            return _fake(text, rest, frames)
        case "dataset":
            return _dataset(text, rest or None, descriptor, data_root, frames)
        case "usb" | "rtsp" | "http" | "https":
            return _camera(text, kind, rest, frames)
    return _files(text, frames)


def _files(text: str, frames: int | None) -> Source:
    path = Path(text)
    if path.is_dir():
        files = images_in(path)
        if not files:
            fix = (
                "Videos in a folder are named one by one." if any(is_video(p) for p in path.iterdir()) else "Put .jpg or .png files there."
            )
            raise AxforgeError("the folder has no pictures", where=text, fix=fix)
        return _pictures(text, files, frames)
    if path.is_file():
        return _video(text, path, frames) if is_video(path) else _pictures(text, [path], frames)
    if glob.has_magic(text):
        # the pattern may be absolute, which Path.glob refuses
        files = sorted(Path(name) for name in glob.glob(text, recursive=True) if is_image(Path(name)))  # noqa: PTH207
        if files:
            return _pictures(text, files, frames)
        raise AxforgeError("no picture matches", where=text, fix="Check the pattern.")
    fix = f"A source is {_KINDS}."
    if path.name in sample_names() or path.stem in sample_names():
        fix = f"Did you mean sample:{path.stem}?"
    raise AxforgeError("there is no such file or folder", where=text, fix=fix)


def _pictures(text: str, files: list[Path], frames: int | None) -> Source:
    files = files[:frames]

    def read() -> Iterator[Frame]:
        for index, path in enumerate(files):
            yield Frame(index, path.name, read_image(path))

    return Source(text, len(files), video=False, fps=None, frames=read)


def _video(text: str, path: Path, frames: int | None) -> Source:
    total, fps = probe(path)
    total = total if frames is None or total is None else min(total, frames)

    def read() -> Iterator[Frame]:
        for index, image in enumerate(video_frames(path, frames)):
            yield Frame(index, f"{path.stem}_{index:06d}", image)

    return Source(text, total, video=True, fps=fps, frames=read)


def _fake(text: str, size: str, frames: int | None) -> Source:
    match = _FAKE_SIZE.match(size)
    if not match or not all(1 <= int(side) <= 16384 for side in match.groups()):
        raise AxforgeError("the size of a fake video is WIDTHxHEIGHT", where=text, fix="For example fakevideo:640x480.")
    width, height = int(match[1]), int(match[2])
    total = frames or DEFAULT_FRAMES

    def make() -> Iterator[Frame]:
        for index in range(total):
            yield Frame(index, f"fake_{index:06d}", fake_picture(width, height, index))

    return Source(text, total, video=True, fps=30.0, frames=make)


def fake_picture(width: int, height: int, index: int) -> NDArray[np.uint8]:
    """A moving colour gradient with a square in it, uint8 RGB; the same for the same arguments."""
    x = np.linspace(0, 255, width)[np.newaxis, :]
    y = np.linspace(0, 255, height)[:, np.newaxis]
    planes = [x + 0 * y, y + 0 * x, (x + y) / 2 + index]
    image = (np.stack(planes, axis=2).astype(np.int64) % 256).astype(np.uint8)
    side = max(1, min(width, height) // 5)
    left, top = (index * 7) % max(1, width - side), (index * 5) % max(1, height - side)
    image[top : top + side, left : left + side] = (250, 220, 60)
    return image


def _dataset(text: str, split: str | None, descriptor: Descriptor | None, data_root: Path | None, frames: int | None) -> Source:
    if descriptor is None:
        raise AxforgeError("only a model has a dataset", where=text, fix="Name the model whose dataset is meant.")
    from axforge.axruntime.evaluate.datasets import open_dataset

    dataset = open_dataset(descriptor, data_root, split)
    total = len(dataset) if frames is None else min(frames, len(dataset))

    def read() -> Iterator[Frame]:
        for index in range(total):
            sample = dataset[index]
            yield Frame(index, sample.name, sample.image)

    return Source(text, total, video=False, fps=None, frames=read)


def _camera(text: str, kind: str, rest: str, frames: int | None) -> Source:
    if kind == "usb" and not rest.isdigit():
        raise AxforgeError("a camera is named by its number", where=text, fix="For example usb:0.")
    if kind != "usb" and not rest.startswith("//"):
        raise AxforgeError(f"this is no {kind} address", where=text, fix=f"Write {kind}://HOST/PATH.")
    address: str | int = int(rest) if kind == "usb" else text

    def read() -> Iterator[Frame]:
        for index, image in enumerate(camera_frames(address, text, frames)):
            yield Frame(index, f"frame_{index:06d}", image)

    return Source(text, frames, video=True, fps=None, frames=read)
