"""Cutting out the middle of a picture."""

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.geometry import Draft
from axforge.axruntime.pipeline.step import PreStep, Size, register


@register
class CenterCrop(PreStep, frozen=True, tag="centercrop"):
    """The middle `width` x `height` pixels; the picture must be at least that large."""

    width: Size
    height: Size

    def __call__(self, draft: Draft) -> Draft:
        height, width = draft.value.shape[:2]
        if height < self.height or width < self.width:
            what = f"a crop of {self.width}x{self.height} does not fit into a picture of {width}x{height}"
            raise AxforgeError(what, where="preprocessing: centercrop", fix="Put a resize step before it.")
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        return draft.resized(draft.value[top : top + self.height, left : left + self.width], draft.geometry.shifted(-left, -top))
