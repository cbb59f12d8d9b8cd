"""A text file that lists pictures."""

from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import is_image
from axforge.axruntime.media.source import FrameSource, Request, register
from axforge.axruntime.media.sources.pictures import of_files


@register("a .txt that lists pictures", suffixes=[".txt"])
def listing(request: Request) -> FrameSource:
    """The pictures that a text file names, one on each line, relative to its own folder. Empty lines and `# comments` are skipped.

    Every line is checked before the first picture is run.
    """
    try:
        lines = request.path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise AxforgeError(f"the list of pictures cannot be read: {e}", where=request.text, fix="Write it as UTF-8 text.") from e
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    files = [_picture(request.path, number, line) for number, line in named]
    if not files:
        raise AxforgeError("the list names no picture", where=request.text, fix="Write one path on each line.")
    return of_files(request, files)


def _picture(listing: Path, number: int, line: str) -> Path:
    path = listing.parent / line
    if not is_image(path) or not path.is_file():
        what = "there is no such picture" if is_image(path) else "this is not the name of a picture"
        raise AxforgeError(f"{what}: {line[:120]}", where=f"{listing}:{number}", fix=f"Correct the line; paths start at {listing.parent}.")
    return path
