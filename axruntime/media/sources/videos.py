"""Video files."""

from collections.abc import Iterator

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import VIDEO_SUFFIXES
from axforge.axruntime.media.source import Frame, FrameSource, Request, register
from axforge.axruntime.media.video import probe, video_frames

#: Share of the announced frames with which a video counts as whole; many formats only estimate their number.
_SHARE = 0.95


@register("a video", suffixes=VIDEO_SUFFIXES)
def video(request: Request) -> FrameSource:
    """The frames of a video file."""
    path = request.path
    total, fps = probe(path)

    wanted = None if total is None else request.limited(total)

    def read() -> Iterator[Frame]:
        count = 0
        for index, image in enumerate(video_frames(path, request.frames)):
            count = index + 1
            yield Frame(index, f"{path.stem}_{index:06d}", image)
        if wanted is not None and count < _SHARE * wanted - 1:  # some files announce a little more than they hold
            fix = "The file is damaged or cut short: copy it again."
            raise AxforgeError(f"the video breaks off after {count} of {wanted} frames", where=request.text, fix=fix)

    return FrameSource(request.text, wanted, video=True, fps=fps, frames=read)
