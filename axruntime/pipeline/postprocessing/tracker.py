"""Tracking objects through the frames of a video."""

from typing import TYPE_CHECKING, Literal

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import RawOutputs
from axforge.axruntime.pipeline.step import Count, PostStep, Share, register
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.tracking.tracks import Tracker


@register
class Track(PostStep, frozen=True, tag="tracker"):
    """Numbers that follow objects through a video, as long as they are seen. All boxes stay; those of no track have no number.

    confidence_threshold: a box this likely can start a track; ByteTrack continues tracks with less likely ones, from 0.1, so give the
    decoder a low threshold of its own. max_age: frames that an object may be hidden.
    class_agnostic: an object may change its class from frame to frame, as those of small networks do.
    """

    takes = "boxes"
    gives = Detections

    algorithm: Literal["bytetrack", "ocsort", "sort"] = "bytetrack"
    confidence_threshold: Share = 0.5
    max_age: Count = 30
    class_agnostic: bool = True

    def new(self) -> "Tracker":
        """The algorithm before its first frame."""
        # NumPy, which reading a model.json does not need
        from axforge.axruntime.pipeline.tracking.bytetrack import ByteTrack
        from axforge.axruntime.pipeline.tracking.ocsort import OcSort
        from axforge.axruntime.pipeline.tracking.sort import Sort

        kinds: dict[str, type[Tracker]] = {"bytetrack": ByteTrack, "ocsort": OcSort, "sort": Sort}
        kind = kinds[self.algorithm]
        return kind(threshold=self.confidence_threshold, max_age=self.max_age, class_agnostic=self.class_agnostic)

    def follow(self, outputs: RawOutputs, found: Candidates | PipelineResult | None, context: DecoderContext) -> Detections:
        if isinstance(found, Candidates):
            found = context.detections(found)
        if not isinstance(found, Detections):
            raise AxforgeError("there are no boxes to track", where="postprocessing: tracker", fix="Put a decode step before it, and nms.")
        tracker: Tracker = context.memory.of(self, self.new)
        return msgspec.structs.replace(found, track_ids=tracker.update(found.boxes, found.scores, found.class_ids))
