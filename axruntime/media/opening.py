"""From what a user types to a source of pictures, and from a path to the sink that writes it."""

import glob
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.registry import load_modules
from axforge.axruntime.media import sink, source
from axforge.axruntime.media.samples import sample_names
from axforge.axruntime.media.sink import Sink, SinkTarget
from axforge.axruntime.media.source import FrameSource, Request, Samples, Skipped
from axforge.axruntime.media.sources import pictures

#: What looks like the ending of a file, and not like the rest of a folder's name such as `run.2` or `v1.x_final`.
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}")

load_modules("axforge.axruntime.media.sources")
load_modules("axforge.axruntime.media.sinks")


def open_source(
    text: str,
    *,
    frames: int | None = None,
    dataset: Callable[[str | None], Samples] | None = None,
    skip: Callable[[Skipped], None] | None = None,
) -> FrameSource:
    """The source that `text` names, at most `frames` frames of it. dataset: opens the dataset of the model that asks, given the split.

    text: a file, a folder or a glob of pictures, or one of the schemes that the modules in `sources/` register.
    skip: is called with each of many pictures that cannot be read; without it, such a picture raises AxforgeError.
    Raises AxforgeError when it names nothing, or nothing readable.
    """
    if frames is not None and frames < 1:
        raise AxforgeError(f"{frames} frames are too few", where=text, fix="Ask for at least 1.")
    scheme, _, rest = text.partition(":")
    if scheme in source.SCHEMES:
        return source.SCHEMES[scheme](Request(text, rest, frames, dataset, skip))
    request = Request(text, text, frames, dataset, skip)
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
    """Whether `path` names a file that a sink writes; else it is a folder. Raises AxforgeError for a file that no sink writes."""
    if path.is_dir():
        return False
    if path.suffix.lower() in sink.SUFFIXES:
        return True
    if _ENDING.fullmatch(path.suffix):
        endings = ", ".join(sorted(sink.SUFFIXES))
        fix = f"Use one of {endings}, or a name without an ending for a folder."
        raise AxforgeError(f"results cannot be written as '{path.suffix}'", where=str(path), fix=fix)
    return False


def default_suffix(frames: FrameSource) -> str:
    """The suffix of the file that shows results, unless an option names one."""
    return ".mp4" if frames.video else ".png"
