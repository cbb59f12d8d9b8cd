"""A cascade: another model looks at the regions that this one found."""

from typing import Annotated

import msgspec
from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.models import RUN_MODEL
from axforge.axruntime.pipeline.problems import suggest
from axforge.axruntime.pipeline.regions import PictureRegion, straightened, upright
from axforge.axruntime.pipeline.step import Count, PostStep, Share, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult


@register
class RunModel(PostStep, frozen=True, tag=RUN_MODEL):
    """Runs another model on each box: its region of the source picture is cut out and goes through that model's own model.json.

    What it says is attached to the box, with places in pixels of the source picture. A turned box is straightened first. Several of
    these steps ask several models. model: its name; it is compiled with this one. margin: added on each side, in shares of the box's
    sides. classes, min_score: only boxes of these labels, and of at least this score, are looked at. max_regions: so many of the best
    boxes. turn_tall: a region at least 1.5 times as high as wide is turned to the left by 90 degrees, as text that runs down needs it.
    """

    takes = "boxes"
    gives = Detections

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    margin: Annotated[float, Meta(ge=0, le=2)] = 0.0
    classes: tuple[str, ...] = ()
    min_score: Share = 0.0
    max_regions: Count = 100
    turn_tall: bool = False

    def models_run(self) -> tuple[str, ...]:
        return (self.model,)

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Detections:
        if isinstance(found, Candidates):
            found = context.detections(found)
        if not isinstance(found, Detections):
            raise AxforgeError("there are no boxes to look at", where=f"postprocessing: {RUN_MODEL}", fix="Put a decode step before it.")
        self._check_labels(context.labels)
        results: list[PipelineResult | None] = [None] * len(found)
        for i in self._chosen(found).tolist():
            results[i] = self._look(found, i, context)
        return msgspec.structs.replace(found, parts={**found.parts, self.model: tuple(results)})

    def _check_labels(self, known: tuple[str, ...]) -> None:
        for name in self.classes:
            if known and name not in known:
                fix = suggest(name, known, "class")
                raise AxforgeError(f"the model has no class '{name}'", where=f"postprocessing: {RUN_MODEL}", fix=fix)

    def _chosen(self, found: Detections) -> Array:
        """The boxes that are looked at, best first."""
        wanted = found.scores >= self.min_score
        if self.classes:
            wanted &= np.isin(np.array(found.labels, object), self.classes)
        rows = np.flatnonzero(wanted)
        return np.asarray(rows[np.argsort(-found.scores[rows], kind="stable")][: self.max_regions])

    def _look(self, found: Detections, i: int, context: DecoderContext) -> PipelineResult | None:
        """What the model says of box `i`; None of a box that has no pixels in the picture."""
        runner, picture = context.models.get(self.model), context.prepared.source
        if runner is None or picture is None:
            fix = f"Run it with its tasks, as a Model, or give the Pipeline models={{'{self.model}': ...}}."
            raise AxforgeError(f"the model '{self.model}' is not loaded", where=f"postprocessing: {RUN_MODEL}", fix=fix)
        region = self._region(found, i, picture)
        if region is None:
            return None
        return runner.run(region.image).placed(region.to_picture, (picture.shape[0], picture.shape[1]))

    def _region(self, found: Detections, i: int, picture: Array) -> PictureRegion | None:
        if found.polygons is not None:
            corners = found.polygons[i]
            sides = np.hypot(*(corners[1] - corners[0])), np.hypot(*(corners[3] - corners[0]))
            tall = self.turn_tall and sides[1] >= 1.5 * sides[0]
            return straightened(picture, np.roll(corners, -1, axis=0) if tall else corners, self.margin)
        region = upright(picture, found.boxes[i], self.margin)
        if region is None or not self.turn_tall or region.image.shape[0] < 1.5 * region.image.shape[1]:
            return region
        turn = np.array([[0, -1, region.image.shape[1]], [1, 0, 0], [0, 0, 1.0]])
        return PictureRegion(np.ascontiguousarray(np.rot90(region.image)), region.to_picture @ turn)
