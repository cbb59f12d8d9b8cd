"""Cameras of this machine, and streams from a network."""

from collections.abc import Iterator

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Frame, FrameSource, Request, register
from axforge.axruntime.media.video import camera_frames


@register("usb:N", schemes=["usb"])
def usb(request: Request) -> FrameSource:
    """A camera by its number."""
    if not request.rest.isdigit():
        raise AxforgeError("a camera is named by its number", where=request.text, fix="For example usb:0.")
    return _camera(request, int(request.rest))


@register("rtsp://…, http://…", schemes=["rtsp", "http", "https"])
def stream(request: Request) -> FrameSource:
    """A stream by its address."""
    if not request.rest.startswith("//"):
        kind = request.text.partition(":")[0]
        raise AxforgeError(f"this is not an {kind} address", where=request.text, fix=f"Write {kind}://HOST/PATH.")
    return _camera(request, request.text)


def _camera(request: Request, address: str | int) -> FrameSource:
    def read() -> Iterator[Frame]:
        for index, image in enumerate(camera_frames(address, request.text, request.frames)):
            yield Frame(index, f"frame_{index:06d}", image)

    return FrameSource(request.text, request.frames, video=True, fps=None, frames=read)
