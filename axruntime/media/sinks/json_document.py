"""Results as JSON of full precision: one document, or a line for each frame."""

import json
import math
from pathlib import Path

from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.growing import GrowingFile
from axforge.axruntime.media.sink import Sink, SinkTarget, register, unwritable
from axforge.axruntime.media.source import Frame, Skipped
from axforge.axruntime.results.result import PipelineResult

#: Room that the end of a document has from its first frame on, so that it can be finished on a full disk.
_ROOM = 512


@register(".json")
class JsonSink(Sink):
    """One document: what is known about the run, and the result of each frame. It is written while the frames come.

    "skipped" names the pictures that could not be used, and "stopped" says why the run broke off; a document without them is complete.
    """

    name = "results"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._file: GrowingFile | None = None
        self._skipped: list[dict[str, object]] = []

    def write(self, frame: Frame, result: PipelineResult) -> None:
        text = _text(result_document(frame, result)).replace("\n", "\n    ")
        head = self._head() if self._file is None else ","
        self._opened().append(f"{head}\n    {text}".encode(), _ending({"stopped": "the process was killed"}).ljust(_ROOM))

    def skip(self, skipped: Skipped) -> None:
        self._skipped.append({"frame": skipped.index, "source": skipped.name, "reason": skipped.reason})

    def finish(self, stopped: str = "") -> None:
        if self._file is None:
            self._opened().append(self._head().encode())
        file = self._opened()
        says: dict[str, object] = {"stopped": stopped[:100]} if stopped else {}
        try:
            file.append(b"", _ending({"skipped": self._skipped, **says} if self._skipped else says, empty=not self.count))
        except AxforgeError:
            if not stopped:
                raise
            file.append(b"", _ending(says))
        file.close()
        self.written.append(self.target.path)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.discard()

    def _head(self) -> str:
        known = _text(self.target.header).removesuffix("}").removesuffix("\n")
        return known + (',\n  "frames": [' if self.target.header else '\n  "frames": [')

    def _opened(self) -> GrowingFile:
        if self._file is None:
            self._file = GrowingFile(self.target.path)
        return self._file


def _ending(known: dict[str, object], *, empty: bool = False) -> bytes:
    """The end of a document after its last frame, with more keys."""
    more = _text(known).removeprefix("{").removesuffix("}").removesuffix("\n")
    return (("]" if empty else "\n  ]") + (f",{more}" if more else "") + "\n}\n").encode()


@register(".jsonl")
class JsonLinesSink(Sink):
    """A line of JSON for each frame, in the file from the moment the frame is done: every line that is there is whole."""

    name = "results"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._file: GrowingFile | None = None

    def write(self, frame: Frame, result: PipelineResult) -> None:
        self._line(result_document(frame, result))

    def skip(self, skipped: Skipped) -> None:
        self._line({"frame": skipped.index, "source": skipped.name, "skipped": skipped.reason})

    def _line(self, document: dict[str, object]) -> None:
        if self._file is None:
            self._file = GrowingFile(self.target.path, hidden=False)
        self._file.append((json.dumps(_finite(document), allow_nan=False) + "\n").encode())

    def finish(self, stopped: str = "") -> None:
        if self._file is not None:
            self._file.close()
            self.written.append(self.target.path)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.discard()


def result_document(frame: Frame, result: PipelineResult) -> dict[str, object]:
    """What the JSON says about one frame."""
    height, width = frame.image.shape[:2]
    return {"frame": frame.index, "source": frame.name, "width": width, "height": height, "result": result.as_json()}


def write_json(path: Path, document: object) -> None:
    """Write `document` as indented JSON, atomically. Raises AxforgeError.

    Floats are written so that reading gives the same number; null replaces those that JSON cannot write (NaN, infinity).
    """
    try:
        write_atomic(path, (_text(document) + "\n").encode())
    except OSError as e:
        raise unwritable(path, e) from e


def _text(document: object) -> str:
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
