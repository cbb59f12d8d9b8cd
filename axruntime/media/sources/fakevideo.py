"""A made-up video: for trying things out, and for measuring speed without reading files."""

import re
from collections.abc import Iterator

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.media.source import Frame, FrameSource, Request, register

#: Frames of the video, unless an option says how many.
DEFAULT_FRAMES = 100
_SIZE = re.compile(r"^(\d{1,5})x(\d{1,5})$")


@register("fakevideo:WxH", schemes=["fakevideo"])
def fakevideo(request: Request) -> FrameSource:
    """Pictures of the size WIDTHxHEIGHT."""
    match = _SIZE.match(request.rest)
    if not match or not all(1 <= int(side) <= 16384 for side in match.groups()):
        raise AxforgeError("the size of a fake video is WIDTHxHEIGHT", where=request.text, fix="For example fakevideo:640x480.")
    width, height = int(match[1]), int(match[2])
    total = request.frames or DEFAULT_FRAMES

    def make() -> Iterator[Frame]:
        for index in range(total):
            yield Frame(index, f"fake_{index:06d}", fake_picture(width, height, index))

    return FrameSource(request.text, total, video=True, fps=30.0, frames=make)


def fake_picture(width: int, height: int, index: int) -> Array:
    """A moving colour gradient with a square in it, uint8 RGB [height, width, 3]; the same for the same arguments."""
    x = np.linspace(0, 255, width)[np.newaxis, :]
    y = np.linspace(0, 255, height)[:, np.newaxis]
    planes = [x + 0 * y, y + 0 * x, (x + y) / 2 + index]
    image = (np.stack(planes, axis=2).astype(np.int64) % 256).astype(np.uint8)
    side = max(1, min(width, height) // 5)
    left, top = (index * 7) % max(1, width - side), (index * 5) % max(1, height - side)
    image[top : top + side, left : left + side] = (250, 220, 60)
    return image
