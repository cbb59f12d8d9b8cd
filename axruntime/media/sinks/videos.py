"""Results drawn on a video."""

from collections.abc import Callable
from pathlib import Path

from axforge.axruntime.media.sink import Sink, SinkTarget, register
from axforge.axruntime.media.source import Frame, FrameSource
from axforge.axruntime.media.video_writer import VideoWriter
from axforge.axruntime.results.result import PipelineResult, annotate


@register(".mp4")
class VideoSink(Sink):
    """An annotated video, for sources that are videos. One that breaks off is a video of the frames until then."""

    name = "video"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._writer = VideoWriter(target.path, target.frames.fps or 25.0)

    @classmethod
    def takes(cls, frames: FrameSource) -> bool:
        return frames.video

    def write(self, frame: Frame, result: PipelineResult) -> None:
        self._writer.write(annotate(frame.image, result))

    def finish(self, stopped: str = "") -> None:
        self._writer.close()
        self.written.append(self.target.path)

    def abandon(self) -> None:
        self._writer.abandon()

    def report(self, shown: Callable[[Path], str]) -> str:
        line = super().report(shown)
        return f"{line} ({self._writer.remark})" if line and self._writer.remark else line
