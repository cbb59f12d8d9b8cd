"""Sinks: JSON files and videos. Both appear under their name only when they are complete."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.sources import Frame
from axforge.axruntime.results.result import Result


def result_document(frame: Frame, result: Result) -> dict[str, Any]:
    """What the JSON says about one frame."""
    height, width = frame.image.shape[:2]
    return {"frame": frame.index, "source": frame.name, "width": width, "height": height, "result": result.as_json()}


def write_json(path: Path, document: Any) -> None:
    """Write `document` as indented JSON, atomically. Raises AxforgeError.

    Floats are written so that reading gives the same number; null stands for those that JSON cannot write (NaN, infinity).
    """
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_atomic(path, text.encode())
    except OSError as e:
        raise _unwritable(path, e) from e


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _unwritable(path: Path, error: OSError) -> AxforgeError:
    return AxforgeError(f"the file cannot be written: {error.strerror}", where=str(path), fix="Check the folder and the space on the disk.")


class VideoWriter:
    """Writes uint8 RGB frames of one size to an .mp4. The file appears at `close`; leaving the `with` by an error leaves no file."""

    def __init__(self, path: Path, fps: float | None) -> None:
        if path.suffix.lower() != ".mp4":
            raise AxforgeError(f"videos cannot be written as '{path.suffix}'", where=str(path), fix="Use .mp4.")
        self._path, self._fps = path, fps or 30.0
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, image: NDArray[np.uint8]) -> None:
        """Add a frame. Frames of another size than the first are scaled to it."""
        if self._writer is None:
            self._open(image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> None:
        self._size = (max(2, width // 2 * 2), max(2, height // 2 * 2))  # the encoder takes even sizes only
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise _unwritable(self._path, e) from e
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size)
        if not self._writer.isOpened():
            raise AxforgeError("the video cannot be written", where=str(self._path), fix="Check the folder and the space on the disk.")

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._temporary.replace(self._path)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.release()
            self._temporary.unlink(missing_ok=True)
