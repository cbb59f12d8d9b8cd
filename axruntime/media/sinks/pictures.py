"""Results drawn on pictures: one file, or a folder with a file for each picture of the source."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import slug
from axforge.axruntime.media.images import write_image
from axforge.axruntime.media.sink import Sink, SinkTarget, register
from axforge.axruntime.media.source import Frame
from axforge.axruntime.results.result import PipelineResult, annotate


@register(".png", ".jpg", ".jpeg", ".bmp", ".webp")
class PictureSink(Sink):
    """Writes PATH for a source of one picture, and PATH without suffix as a folder for a source of many."""

    name = "picture"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._stems: Counter[str] = Counter()
        self._pictures = 0
        if target.frames.video:
            raise AxforgeError("A video cannot be written as a picture.", where=str(target.path), fix="Name a folder or an .mp4.")

    def write(self, frame: Frame, result: PipelineResult) -> None:
        if frame.image.ndim != 3 or frame.image.shape[-1] != 3:
            return  # a sample that is not a picture
        path = self.target.path if self.target.frames.total == 1 else self._one_of_many(frame.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, annotate(frame.image, result))
        self._pictures += 1
        if not self.written:
            self.written.append(path)

    def _one_of_many(self, frame: str) -> Path:
        """Where the picture of a frame goes; pictures called a.jpg and a.png, say, get names of their own."""
        stem = slug(frame)
        self._stems[stem] += 1
        return self.target.path.with_suffix("") / f"{stem}{f'-{self._stems[stem]}' if self._stems[stem] > 1 else ''}.png"

    def report(self, shown: Callable[[Path], str]) -> str:
        if self._pictures > 1:
            return f"{self._pictures} pictures: {shown(self.written[0].parent)}/"
        return super().report(shown)
