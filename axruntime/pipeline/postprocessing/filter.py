"""Keeping some of the boxes, and giving classes other names."""

from typing import Annotated

import msgspec
from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, cv2, np
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.problems import suggest
from axforge.axruntime.pipeline.step import PostStep, Share, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult

Pixels = Annotated[float, Meta(ge=0)]
Corner = tuple[Share, Share]


@register
class Filter(PostStep, frozen=True, tag="filter"):
    """Keeps the boxes that meet every condition that is given.

    classes, exclude: labels that are kept, and labels that are not. min_score: lowest score. min_width, min_height, max_width,
    max_height: of a box, in pixels of the source picture; 0 is no limit. region: corners (x, y) of a polygon, in shares of the source
    picture, that must hold the middle of the box. rename: other names for labels, given after the conditions are checked.
    """

    takes = "boxes"
    gives = Detections

    classes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_score: Share = 0.0
    min_width: Pixels = 0.0
    min_height: Pixels = 0.0
    max_width: Pixels = 0.0
    max_height: Pixels = 0.0
    region: tuple[Corner, ...] = ()
    rename: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if 0 < len(self.region) < 3:
            raise ValueError("`region` is a polygon of at least three corners")

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Detections:
        if isinstance(found, Candidates):
            found = context.detections(found)
        if not isinstance(found, Detections):
            raise AxforgeError("there are no boxes to choose from", where="postprocessing: filter", fix="Put a decode step before it.")
        self._check_labels(context.labels)
        geometry = context.prepared.geometry
        kept = found.take(np.flatnonzero(self._keeps(found, geometry.width, geometry.height)))
        return msgspec.structs.replace(kept, labels=tuple(self.rename.get(name, name) for name in kept.labels))

    def _check_labels(self, known: tuple[str, ...]) -> None:
        """Raises AxforgeError for a label that the model does not have; a model without labels has 'class 0' and so on."""
        for name in (*self.classes, *self.exclude, *self.rename):
            if known and name not in known:
                what = f"the model has no class '{name}'"
                raise AxforgeError(what, where="postprocessing: filter", fix=suggest(name, known, "class"))

    def _keeps(self, found: Detections, width: int, height: int) -> Array:
        """Whether each box meets the conditions, bool [n]."""
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        keep = (found.scores >= self.min_score) & (sizes >= (self.min_width, self.min_height)).all(axis=1)
        keep &= (sizes <= (self.max_width or np.inf, self.max_height or np.inf)).all(axis=1)
        names = np.array(found.labels, object)
        if self.classes:
            keep &= np.isin(names, self.classes)
        keep &= ~np.isin(names, self.exclude)
        if self.region:
            polygon = (np.array(self.region) * (width, height)).astype(np.float32)
            middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            keep &= np.array([cv2.pointPolygonTest(polygon, (x, y), False) >= 0 for x, y in middles.tolist()], bool)
        return np.asarray(keep)
