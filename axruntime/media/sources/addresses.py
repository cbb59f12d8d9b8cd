"""Pictures, videos and streams on a web server."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import slug
from axforge.axruntime.media.images import decode_image
from axforge.axruntime.media.source import Frame, FrameSource, Request, register
from axforge.axruntime.media.sources.cameras import camera
from axforge.axruntime.media.sources.videos import video
from axforge.axruntime.media.web import kind_of, picture_bytes, video_file

if TYPE_CHECKING:
    import tempfile


@register("http://…", schemes=["http", "https"])
def address(request: Request) -> FrameSource:
    """What the server says it is: a picture, a video, or a stream that a camera sends."""
    if not request.rest.startswith("//"):
        kind = request.text.partition(":")[0]
        raise AxforgeError(f"this is not an {kind} address", where=request.text, fix=f"Write {kind}://HOST/PATH.")
    kind = kind_of(request.text)
    if kind == "picture":
        return _picture(request)
    return _video(request) if kind == "video" else camera(request, request.text)


def _picture(request: Request) -> FrameSource:
    def read() -> Iterator[Frame]:
        yield Frame(0, slug(request.text), decode_image(picture_bytes(request.text), request.text))

    return FrameSource(request.text, 1, video=False, fps=None, frames=read)


def _video(request: Request) -> FrameSource:
    file = _downloaded(request.text)
    source = video(msgspec.structs.replace(request, rest=file.name))

    def read() -> Iterator[Frame]:
        for frame in source:
            yield Frame(frame.index, f"{slug(request.text)}_{frame.index:06d}", frame.image)

    return msgspec.structs.replace(source, frames=read)


@functools.lru_cache(maxsize=4)
def _downloaded(text: str) -> "tempfile._TemporaryFileWrapper[bytes]":
    """The file; kept while the process runs, because a source is opened once to check it and once to run it."""
    return video_file(text)
