"""Photos that installed packages ship."""

from axforge.axruntime.media.samples import sample_path
from axforge.axruntime.media.source import FrameSource, Request, register
from axforge.axruntime.media.sources.pictures import of_files


@register("sample:NAME", schemes=["sample"])
def sample(request: Request) -> FrameSource:
    """The photo of that name."""
    return of_files(request, [sample_path(request.rest)])
