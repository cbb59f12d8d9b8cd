"""Results as JSON of full precision."""

import json
import math
from pathlib import Path

from axforge.axcompiler.container import write_atomic
from axforge.axruntime.media.sink import Sink, SinkTarget, register, unwritable
from axforge.axruntime.media.source import Frame
from axforge.axruntime.results.result import PipelineResult


@register(".json")
class JsonSink(Sink):
    """One document: what is known about the run, and the result of each frame."""

    name = "results"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._frames: list[dict[str, object]] = []

    def add(self, frame: Frame, result: PipelineResult) -> None:
        self._frames.append(result_document(frame, result))

    def finish(self) -> None:
        write_json(self.target.path, {**self.target.header, "frames": self._frames})
        self.written.append(self.target.path)


def result_document(frame: Frame, result: PipelineResult) -> dict[str, object]:
    """What the JSON says about one frame."""
    height, width = frame.image.shape[:2]
    return {"frame": frame.index, "source": frame.name, "width": width, "height": height, "result": result.as_json()}


def write_json(path: Path, document: object) -> None:
    """Write `document` as indented JSON, atomically. Raises AxforgeError.

    Floats are written so that reading gives the same number; null replaces those that JSON cannot write (NaN, infinity).
    """
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_atomic(path, text.encode())
    except OSError as e:
        raise unwritable(path, e) from e


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
