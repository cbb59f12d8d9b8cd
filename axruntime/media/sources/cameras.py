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
    return camera(request, int(request.rest))


@register("rtsp://…", schemes=["rtsp"])
def stream(request: Request) -> FrameSource:
    """A stream by its address."""
    if not request.rest.startswith("//"):
        raise AxforgeError("this is not an rtsp address", where=request.text, fix="Write rtsp://HOST/PATH.")
    return camera(request, request.text)


def camera(request: Request, address: str | int) -> FrameSource:
    """Frames of a camera or a stream, until it ends; nobody knows how many."""

    def read() -> Iterator[Frame]:
        for index, image in enumerate(camera_frames(address, request.text, request.frames)):
            yield Frame(index, f"frame_{index:06d}", image)

    return FrameSource(request.text, request.frames, video=True, fps=None, frames=read)
