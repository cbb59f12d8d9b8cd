"""Running a model on a source: pictures and videos in, a table, annotated pictures and a JSON of full precision out."""

import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.errors import AxforgeError
from axforge.cache.errors import masked
from axforge.tasks.compiling import shown
from axforge.tasks.display import counting, table
from axforge.tasks.engines import open_for
from axforge.tasks.plan import Plan

if TYPE_CHECKING:
    from axforge.axruntime.media.sources import Frame, Source
    from axforge.axruntime.results.result import Result

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")
#: Rows of a table on the screen; the JSON has all.
ROWS = 20


def run(plan: Plan, text: str, pipe: str) -> dict[str, Any]:
    """Run `text`, a source as it was typed, through the model on the engine `pipe`. Raises AxforgeError."""
    from axforge.axruntime.media.sources import open_source
    from axforge.axruntime.pipeline.pipeline import Pipeline

    settings, descriptor = plan.settings, plan.descriptor
    source = open_source(where(text, plan), descriptor=descriptor, data_root=settings.data_root, frames=plan.options.frames or None)
    print("Running pipeline...", flush=True)
    engine = open_for(plan, pipe)
    try:
        pipeline = Pipeline(descriptor, engine)
        output = Output(plan, source, text)
        start = time.perf_counter()
        with output, counting(f"{plan.model.name} on {pipe}") as progress:
            for done, frame in enumerate(source, start=1):
                output.add(frame, pipeline.run(frame.image))
                progress(done, source.total or 0, "")
        seconds = time.perf_counter() - start
    finally:
        engine.close()
    return _tell(plan, pipe, output, pipeline.engine_seconds, seconds)


def where(text: str, plan: Plan) -> str:
    """The source, with a relative path made absolute: it is relative to where it was typed."""
    path = plan.settings.typed(text)
    kind = re.match(r"^[a-z]{2,}:", text) or text == "dataset"
    return text if kind and not path.exists() else str(path)


@dataclass
class Output:
    """Where results of one run go: a file for one picture or a video, a folder for many pictures; the JSON beside."""

    plan: Plan
    source: "Source"
    text: str
    documents: list[dict[str, Any]] = field(default_factory=list)
    results: "list[tuple[str, Result]]" = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._video: Any = None
        self._named: Counter[str] = Counter()
        self.stem = slug(where(self.text, self.plan))
        asked = self.plan.options.save_output
        self.asked = self.plan.settings.typed(asked) if asked else None
        if self.asked is not None and self.source.video and self.asked.suffix.lower() in PICTURES:
            raise AxforgeError("A video cannot be written as a picture.", where=str(self.asked), fix="Name a folder or an .mp4.")
        file = self.asked is not None and self.asked.suffix.lower() in (*PICTURES, *VIDEOS)
        if self.asked is not None and file:
            self.folder, self.stem, self.suffix = self.asked.parent, self.asked.stem, self.asked.suffix
        else:
            self.folder, self.suffix = self.asked or self.plan.results, ".mp4" if self.source.video else ".png"
        self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    @property
    def many(self) -> bool:
        """Whether each picture gets a file of its own name."""
        return not self.source.video and self.source.total != 1

    @property
    def json(self) -> Path:
        """The file with all results."""
        return self.folder / f"{self.stem}.json"

    def add(self, frame: "Frame", result: "Result") -> None:
        """Keep a result and write its picture."""
        from axforge.axruntime.media.sinks import result_document

        self.documents.append(result_document(frame, result))
        self.results.append((frame.name, result))
        if len(self.results) > 5000:  # the table shows counts by then; endless sources must not fill the memory
            self.results.pop(0)
        if getattr(frame.image, "ndim", 0) == 3 and frame.image.shape[-1] == 3:
            self._draw(frame, result)

    def _draw(self, frame: "Frame", result: "Result") -> None:
        from axforge.axruntime.media.images import write_image
        from axforge.axruntime.media.sinks import VideoWriter
        from axforge.axruntime.results.result import annotate

        drawn = annotate(frame.image, result)
        if self.source.video:
            if self._video is None:
                self.pictures.append(self.folder / f"{self.stem}{self.suffix}")
                self._video = self._stack.enter_context(VideoWriter(self.pictures[-1], self.source.fps or 25.0))
            self._video.write(drawn)
            return
        path = self.folder / self._picture(frame.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, drawn)
        self.pictures.append(path)

    def _picture(self, frame: str) -> str:
        """Where the picture of a frame goes; pictures called a.jpg and a.png, say, get names of their own."""
        if not self.many:
            return f"{self.stem}{self.suffix}"
        stem = slug(frame)
        self._named[stem] += 1
        return f"{self.stem}/{stem}{f'-{self._named[stem]}' if self._named[stem] > 1 else ''}.png"


def slug(text: str) -> str:
    """A file name for a source: of a path its last part, without credentials and signs that file systems dislike."""
    text = re.sub(r"^[a-z]+://([^/]*@)?", "", text.rstrip("/"))
    text = text if ":" in text.split("/")[-1] else text.rsplit("/", 1)[-1]
    stem = re.sub(r"\.(png|jpe?g|bmp|webp|tiff?|mp4|avi|mkv|mov|webm)$", "", text, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "result"


def _tell(plan: Plan, pipe: str, output: Output, engine_seconds: float, seconds: float) -> dict[str, Any]:
    from axforge.axruntime.media.sinks import write_json

    count = len(output.documents)
    if not count:
        raise AxforgeError("The source gave no picture.", where=output.text)
    summary = {"model": plan.model.name, "pipe": pipe, "source": masked(output.text), "frames": output.documents}
    write_json(output.json, summary)
    title, head, rows = rows_of(output)
    if rows:
        table(title, head, rows[:ROWS])
    else:
        print(f"{title}: nothing found")
    if len(rows) > ROWS:
        print(f"  … and {len(rows) - ROWS} more, in the JSON")
    each = 1000 * engine_seconds / count
    frames = f"{count} frame{'s' * (count > 1)}"
    lines = [f"{frames} on {pipe}: {each:.1f} ms a frame in the engine, {count / seconds:.1f} frames/s"]
    if output.pictures:
        first = output.pictures[0]
        if len(output.pictures) == 1:
            lines.append(f"{'video' if output.source.video else 'picture'}: {shown(first, plan)}")
        else:
            lines.append(f"{len(output.pictures)} pictures: {shown(first.parent, plan)}/")
    lines.append(f"results: {shown(output.json, plan)}")
    print("\n".join(lines), flush=True)
    return {"json": str(output.json), "frames": count}


def rows_of(output: Output) -> tuple[str, list[str], list[list[str]]]:
    """Title, head and rows of the table: of one picture its results, of many a line each, of a video what was seen how often."""
    name = masked(output.text)
    if len(output.results) == 1:
        found = output.results[0][1].table()
        return name, found.head(), found.texts()
    if output.source.video:
        seen: Counter[str] = Counter()
        frames: Counter[str] = Counter()
        for _, result in output.results:
            labels = result.seen()
            seen.update(labels)
            frames.update(set(labels))
        total = len(output.results)
        rows = [[label, str(frames[label]), f"{n / total:.2f}"] for label, n in seen.most_common()]
        return f"{name}, {total} frames", ["class", "frames", "mean count"], rows
    return name, ["picture", "result"], [[frame, result.brief()] for frame, result in output.results]
