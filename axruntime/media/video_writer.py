"""Writing an .mp4: H.264 where PyAV is installed, so that browsers play it, and MPEG-4 with OpenCV elsewhere."""

import contextlib
import errno
import importlib.util
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2
from axforge.axruntime.media.sink import unwritable

#: Bytes that stay free on the disk, for the index at the end of a video and of what else is finished then.
_RESERVE = 2_000_000
#: FFmpeg: write each second to the disk as a fragment that plays by itself; an index at the end makes it an ordinary file.
_GROWING = {"movflags": "+hybrid_fragmented+frag_keyframe", "flush_packets": "1"}


class VideoEncoder(Protocol):
    """Writes uint8 RGB frames of one size to a file. remark: what a user should know about the file; ''."""

    remark: str

    def add(self, image: Array) -> None:
        """Add a frame. Raises OSError or ValueError when the file cannot be written."""

    def close(self) -> None:
        """Finish the file. Raises as `add`."""


class VideoWriter:
    """Writes uint8 RGB frames of one size to an .mp4, which gets its name at `close`; `abandon` leaves no file.

    Until then it is called `.NAME.PID.part.mp4`. In H.264 that file plays too, up to its last second or so, if the process is killed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() != ".mp4":
            raise AxforgeError(f"videos cannot be written as '{path.suffix}'", where=str(path), fix="Use .mp4.")
        self._path, self._fps = path, fps
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
        self._encoder: VideoEncoder | None = None
        self._size = (0, 0)
        self.remark = ""

    def write(self, image: Array) -> None:
        """Add a frame. Frames of another size than the first are scaled to it. Raises AxforgeError."""
        with self._errors():
            if self._encoder is None:
                self._size = (max(2, image.shape[1] // 2 * 2), max(2, image.shape[0] // 2 * 2))  # encoders take even sizes only
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._encoder = _encoder(self._temporary, self._fps, self._size)
                self.remark = self._encoder.remark
            if shutil.disk_usage(self._path.parent).free < _RESERVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if (image.shape[1], image.shape[0]) != self._size:
                image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
            self._encoder.add(image)

    def close(self) -> None:
        """Finish the file and give it its name. Raises AxforgeError; what then can be played of it still gets its name."""
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            with self._errors():
                encoder.close()
        except AxforgeError:
            if _frames_in(self._temporary):
                self._temporary.replace(self._path)
            self._temporary.unlink(missing_ok=True)
            raise
        with self._errors():
            self._temporary.replace(self._path)

    def abandon(self) -> None:
        """Remove what was written."""
        if self._encoder is not None:
            with contextlib.suppress(OSError, ValueError):
                self._encoder.close()
            self._encoder = None
        self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:  # PyAV's errors of files are OSErrors too
            raise unwritable(self._path, e) from e
        except ValueError as e:
            raise AxforgeError(f"the video cannot be written: {e}", where=str(self._path), fix="Check the space on the disk.") from e


def _encoder(path: Path, fps: float, size: tuple[int, int]) -> VideoEncoder:
    return H264Encoder(path, fps, size) if importlib.util.find_spec("av") is not None else OpenCvEncoder(path, fps, size)


class H264Encoder:
    """H.264 by PyAV. The file consists of fragments while it grows, so that its part plays, and is an ordinary .mp4 when it is closed."""

    remark = ""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        import av  # an optional package

        self._frame = av.VideoFrame
        self._file: Any = av.open(str(path), "w", format="mp4", options=_GROWING)
        options = {"crf": "20", "preset": "veryfast", "g": str(max(1, round(fps)))}  # a fragment for each second
        self._stream: Any = self._file.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000), options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size, "yuv420p"

    def add(self, image: Array) -> None:
        """Encode a frame; the encoder keeps some dozens of them to compare."""
        self._file.mux(self._stream.encode(self._frame.from_ndarray(image, format="rgb24")))

    def close(self) -> None:
        """Write the frames that the encoder still holds, and the index."""
        try:
            self._file.mux(self._stream.encode(None))
        finally:
            self._file.close()


class OpenCvEncoder:
    """MPEG-4 by OpenCV, which is always there, and says nothing when it cannot write: the file is read when it is closed."""

    remark = "MPEG-4, which browsers do not play; with the package av (axforge[video]) it is H.264"

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._path, self._count = path, 0
        self._writer: Any = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not self._writer.isOpened():
            raise ValueError("the folder or the disk does not allow it")

    def add(self, image: Array) -> None:
        """Encode a frame."""
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> None:
        """Write the index, and make sure that all is there."""
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error says more
        self._writer.release()
        cv2.utils.logging.setLogLevel(level)
        found = _frames_in(self._path)
        if found < self._count:
            raise ValueError(f"only {found} of {self._count} frames are in the file")


def _frames_in(path: Path) -> int:
    """Number of frames of a video; 0 of what is not playable."""
    from axforge.axruntime.media.video import probe  # OpenCV

    try:
        return probe(path)[0] or 0
    except AxforgeError:
        return 0
