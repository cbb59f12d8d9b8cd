"""SCRFD."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import grid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register

_STRIDES, _ANCHORS = (8, 16, 32), 2


@register
class DecodeScrfd(BoxDecoder, frozen=True, tag="decode_scrfd"):
    """SCRFD, for faces: of each anchor a probability, the distances of the four sides from the cell's corner, and five points.

    Distances and points are in units of the map's stride; points are relative to the cell's corner too. The outputs may come in any
    order and with or without an axis for the batch. strides: of the maps. anchors: in each cell. Without points there are boxes alone.
    """

    reads_codes = True
    takes = "for each map scores `[1, N, 1]`, boxes `[1, N, 4]` and points `[1, N, 10]`"

    strides: tuple[Count, ...] = _STRIDES
    anchors: Count = _ANCHORS

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        found = sorted(head.shape[-2:] for head in network.heads if len(head.shape) in (2, 3))
        counts = [network.points((stride,)) * _ANCHORS for stride in _STRIDES] if network.height else []
        widths = next((w for w in ((1, 4, 10), (1, 4)) if found == sorted((n, width) for n in counts for width in w)), ())
        if len(found) != len(network.heads) or not widths:
            return None
        why = f"scores, boxes{' and five points' if 10 in widths else ''} for each of 2 anchors in the cells of strides 8, 16, 32"
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize(mean=127.5, std=128.0, divisor=1.0))
        return Fit((cls(confidence_threshold=0.5), Nms(iou_threshold=0.4)), "likely", why, "", 1, feeding, ("face",))

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        parts = [self._decoded(outputs, stride, context) for stride in self.strides]
        boxes, scores = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        points = [part[2] for part in parts]
        columns = {} if any(p is None for p in points) else {"keypoints": np.concatenate([p for p in points if p is not None])}
        return self.chosen(boxes, scores, **columns)

    def _decoded(self, outputs: RawOutputs, stride: int, context: DecoderContext) -> tuple[Array, Array, Array | None]:
        """Boxes [n, 4], scores [n, 1] and points [n, k, 3] of the map of a stride, where a score reaches the threshold."""
        columns, rows = (-(-int(length) // stride) for length in context.picture_size())
        cells = (grid(rows, columns) * np.float32(stride)).repeat(self.anchors, axis=0)
        scores, distances, points = (self._rows(outputs, width, len(cells)) for width in (1, 4, 10))
        if scores is None or distances is None:
            what = f"scores and boxes of {len(cells)} anchors for stride {stride}"
            raise self.misfit(next(iter(outputs.values())).shape, what)
        chosen = self.candidates(scores)
        cells, faces = cells[chosen], real_part(scores, lambda values: values[chosen])
        distances = real_part(distances, lambda values: values[chosen]) * np.float32(stride)
        boxes = np.concatenate([cells - distances[:, :2], cells + distances[:, 2:]], axis=1)
        if points is None:
            return boxes, faces, None
        offsets = real_part(points, lambda values: values[chosen]).reshape(len(cells), 5, 2)
        moved = cells[:, np.newaxis] + offsets * np.float32(stride)
        return boxes, faces, np.concatenate([moved, np.ones_like(moved[:, :, :1])], axis=2)

    @staticmethod
    def _rows(outputs: RawOutputs, width: int, count: int) -> Output | None:
        """The output of `count` rows of `width` numbers, without the axis of the batch; None when there is none."""
        found = (value for value in outputs.values() if value.shape in ((count, width), (1, count, width)))
        return next((view(value, lambda values: values.reshape(count, width)) for value in found), None)
