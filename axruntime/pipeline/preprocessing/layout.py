"""The order of the axes of the network's input."""

from typing import Literal

import msgspec

from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.step import PreStep, register


@register
class InputLayout(PreStep, frozen=True, tag="layout"):
    """The order of axes the network takes. Without this step: NCHW."""

    to: Literal["NCHW", "NHWC"]

    def __call__(self, draft: Draft) -> Draft:
        return msgspec.structs.replace(draft, layout=self.to)
