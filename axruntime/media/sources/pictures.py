"""Pictures: one file, the files of a folder, or those that match a pattern."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import IMAGE_SUFFIXES, images_in, is_image, is_video
from axforge.axruntime.media.images import read_image
from axforge.axruntime.media.source import Frame, FrameSource, Request, Skipped, register


@register("a picture, a folder", suffixes=IMAGE_SUFFIXES)
def picture(request: Request) -> FrameSource:
    """One picture."""
    return of_files(request, [request.path])


def folder(request: Request) -> FrameSource:
    """The pictures directly in a folder, sorted by name."""
    files = images_in(request.path)
    if not files:
        videos = any(is_video(path) for path in request.path.iterdir())
        fix = "Videos in a folder are named one by one." if videos else "Put .jpg or .png files there."
        raise AxforgeError("the folder has no pictures", where=request.text, fix=fix)
    return of_files(request, files)


def pattern(request: Request) -> FrameSource:
    """The pictures that match a glob pattern."""
    # the pattern may be absolute, which Path.glob refuses
    files = sorted(Path(name) for name in glob.glob(request.rest, recursive=True) if is_image(Path(name)))  # noqa: PTH207
    if not files:
        raise AxforgeError("no picture matches", where=request.text, fix="Check the pattern.")
    return of_files(request, files)


def of_files(request: Request, files: Sequence[Path]) -> FrameSource:
    """Pictures in files, one frame each. Of several, those that cannot be read are left out when the request says so."""
    files = files[: request.frames]
    skip = request.skip if len(files) > 1 else None

    def read() -> Iterator[Frame]:
        for index, path in enumerate(files):
            try:
                image = read_image(path)
            except AxforgeError as e:
                if skip is None:
                    raise
                skip(Skipped(index, path.name, e.what))
            else:
                yield Frame(index, path.name, image)

    return FrameSource(request.text, len(files), video=False, fps=None, frames=read)
