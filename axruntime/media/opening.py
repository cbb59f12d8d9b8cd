"""From what a user types to a source of pictures, and from a path to the sink that writes it."""

import glob
from collections.abc import Callable, Mapping
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime import discovery
from axforge.axruntime.media import sink, source
from axforge.axruntime.media.samples import sample_names
from axforge.axruntime.media.sink import Sink, SinkTarget
from axforge.axruntime.media.source import FrameSource, Request, Samples
from axforge.axruntime.media.sources import pictures

discovery.import_all("axforge.axruntime.media.sources")
discovery.import_all("axforge.axruntime.media.sinks")


def open_source(text: str, *, frames: int | None = None, dataset: Callable[[str | None], Samples] | None = None) -> FrameSource:
    """The source that `text` names, at most `frames` frames of it. dataset: opens the dataset of the model that asks, given the split.

    text: a file, a folder or a glob of pictures, or one of the schemes that the modules in `sources/` register.
    Raises AxforgeError when it names nothing, or nothing readable.
    """
    if frames is not None and frames < 1:
        raise AxforgeError(f"{frames} frames are too few", where=text, fix="Ask for at least 1.")
    scheme, _, rest = text.partition(":")
    if scheme in source.SCHEMES:
        return source.SCHEMES[scheme](Request(text, rest, frames, dataset))
    request = Request(text, text, frames, dataset)
    if request.path.is_dir():
        return pictures.folder(request)
    if request.path.is_file():
        return source.SUFFIXES.get(request.path.suffix.lower(), pictures.picture)(request)
    if glob.has_magic(text):
        return pictures.pattern(request)
    fix = f"A source is {', '.join(source.FORMS)}."
    if request.path.name in sample_names() or request.path.stem in sample_names():
        fix = f"Did you mean sample:{request.path.stem}?"
    raise AxforgeError("there is no such file or folder", where=text, fix=fix)


def open_sink(path: Path, frames: FrameSource, header: Mapping[str, str]) -> Sink:
    """The sink that writes results of `frames` to `path`, chosen by its suffix. Raises AxforgeError when they do not fit.

    header: what is known about the whole run, for sinks that write it down.
    """
    kind = sink.SUFFIXES.get(path.suffix.lower())
    if kind is None or not kind.takes(frames):
        kind = sink.SUFFIXES[default_suffix(frames)]
    return kind(SinkTarget(path, frames, dict(header)))


def names_file(path: Path) -> bool:
    """Whether the suffix of `path` is one that a sink writes; else it is a folder."""
    return path.suffix.lower() in sink.SUFFIXES


def default_suffix(frames: FrameSource) -> str:
    """The suffix of the file that shows results, unless an option names one."""
    return ".mp4" if frames.video else ".png"
