"""Reading videos and cameras with OpenCV."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError


@contextlib.contextmanager
def _capture(address: str | int, where: str, fix: str) -> Iterator[Any]:
    """An open cv2.VideoCapture, released at the end. Raises AxforgeError when it cannot be opened."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our errors say more than its log
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(address)
    try:
        if not capture.isOpened():
            raise AxforgeError("the video cannot be opened", where=where, fix=fix)
        yield capture
    finally:
        capture.release()
        cv2.utils.logging.setLogLevel(level)


def probe(path: Path) -> tuple[int | None, float | None]:
    """Number of frames and frames per second, as far as the file says. Raises AxforgeError when it is not a video."""
    with _capture(str(path), str(path), "Check that it is a video that FFmpeg reads.") as capture:
        count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        return (int(count) if count > 0 else None), (float(fps) if 0 < fps < 1000 else None)


def video_frames(path: Path, limit: int | None) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video file, uint8 RGB. Raises AxforgeError when not even one can be read."""
    fix = "Check that it is a video that FFmpeg reads."
    with _capture(str(path), str(path), fix) as capture:
        yield from _read(capture, limit, str(path), "the video has no frame that can be read", fix)


def camera_frames(address: str | int, where: str, limit: int | None) -> Iterator[NDArray[np.uint8]]:
    """Frames of a camera or a stream, uint8 RGB, until it ends. Raises AxforgeError when it cannot be reached."""
    fix = (
        "Check that the camera is there and no other program uses it." if isinstance(address, int) else "Check the address and the network."
    )
    with _capture(address, where, fix) as capture:
        yield from _read(capture, limit, where, "it sends no picture", fix)


def _read(capture: Any, limit: int | None, where: str, nothing: str, fix: str) -> Iterator[NDArray[np.uint8]]:
    count = 0
    while limit is None or count < limit:
        ok, image = capture.read()
        if not ok:
            break
        count += 1
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if count == 0:
        raise AxforgeError(nothing, where=where, fix=fix)
