"""Results drawn on a video."""

import os
from pathlib import Path
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2
from axforge.axruntime.media.sink import Sink, SinkTarget, register, unwritable
from axforge.axruntime.media.source import Frame, FrameSource
from axforge.axruntime.results.result import PipelineResult, annotate


@register(".mp4", ".avi", ".mkv", ".mov", ".webm")
class VideoSink(Sink):
    """An annotated video, for sources that are videos."""

    name = "video"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._writer = VideoWriter(target.path, target.frames.fps or 25.0)

    @classmethod
    def takes(cls, frames: FrameSource) -> bool:
        return frames.video

    def add(self, frame: Frame, result: PipelineResult) -> None:
        self._writer.write(annotate(frame.image, result))

    def finish(self) -> None:
        self._writer.close()
        self.written.append(self.target.path)

    def abandon(self) -> None:
        self._writer.abandon()


class VideoWriter:
    """Writes uint8 RGB frames of one size to an .mp4, which appears at `close`; `abandon` leaves no file."""

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() != ".mp4":
            raise AxforgeError(f"videos cannot be written as '{path.suffix}'", where=str(path), fix="Use .mp4.")
        self._path, self._fps = path, fps
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
        self._writer: Any = None  # OpenCV has no types for it
        self._size = (0, 0)

    def write(self, image: Array) -> None:
        """Add a frame. Frames of another size than the first are scaled to it."""
        if self._writer is None:
            self._open(image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> None:
        self._size = (max(2, width // 2 * 2), max(2, height // 2 * 2))  # the encoder takes even sizes only
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise unwritable(self._path, e) from e
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size)
        if not self._writer.isOpened():
            raise AxforgeError("the video cannot be written", where=str(self._path), fix="Check the folder and the space on the disk.")

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._temporary.replace(self._path)

    def abandon(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.unlink(missing_ok=True)
