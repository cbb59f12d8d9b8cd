"""The dataset of a model."""

from collections.abc import Iterator

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.source import Frame, FrameSource, Request, register


@register("dataset", schemes=["dataset"])
def dataset(request: Request) -> FrameSource:
    """The samples of a model's dataset, or of one of its splits."""
    if request.dataset is None:
        raise AxforgeError("only a model has a dataset", where=request.text, fix="Name the model whose dataset is meant.")
    samples = request.dataset(request.rest or None)
    total = request.limited(len(samples))

    def read() -> Iterator[Frame]:
        for index in range(total):
            sample = samples[index]
            yield Frame(index, sample.name, sample.image)

    return FrameSource(request.text, total, video=False, fps=None, frames=read)
