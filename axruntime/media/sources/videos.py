"""Video files."""

from collections.abc import Iterator

from axforge.axruntime.media.files import VIDEO_SUFFIXES
from axforge.axruntime.media.source import Frame, FrameSource, Request, register
from axforge.axruntime.media.video import probe, video_frames


@register("a video", suffixes=VIDEO_SUFFIXES)
def video(request: Request) -> FrameSource:
    """The frames of a video file."""
    path = request.path
    total, fps = probe(path)

    def read() -> Iterator[Frame]:
        for index, image in enumerate(video_frames(path, request.frames)):
            yield Frame(index, f"{path.stem}_{index:06d}", image)

    return FrameSource(request.text, None if total is None else request.limited(total), video=True, fps=fps, frames=read)
