"""RetinaFace."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, difference_reaching, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register

#: Mean of the faces that RetinaFace was trained with, in 0..255 and in the order BGR.
_FEEDING = Normalize(mean=(104.0, 117.0, 123.0), std=1.0, divisor=1.0)
#: Numbers of a row: offsets of a box, scores of background and face, five points.
_WIDTHS = (4, 2, 10)


@register
class DecodeRetinaFace(BoxDecoder, frozen=True, tag="decode_retinaface"):
    """RetinaFace: boxes and five points (eyes, nose, corners of the mouth) as offsets from square anchors, in shares of the picture.

    centre = anchor's + t * variance[0] * anchor's size, size = anchor's size * exp(t * variance[1]); points are moved as centres are.
    strides: of the maps, finest first. anchors: sides in pixels of the anchors in each cell of a map. The outputs may come in any order.
    softmax: the scores are logits. A network without points gives boxes alone.
    """

    reads_codes = True
    takes = "boxes `[1, N, 4]`, scores `[1, N, 2]` and points `[1, N, 10]`"

    strides: tuple[Count, ...] = (8, 16, 32)
    anchors: tuple[tuple[Count, ...], ...] = ((16, 32), (64, 128), (256, 512))
    variances: tuple[float, float] = (0.1, 0.2)
    softmax: bool = False

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.anchors):
            raise ValueError(f"`strides` has {len(self.strides)} maps and `anchors` has {len(self.anchors)}")

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        by_width = {head.shape[2]: head for head in network.heads if len(head.shape) == 3}
        count = 2 * network.points((8, 16, 32)) if network.height else 0
        if len(network.heads) != 3 or set(by_width) != set(_WIDTHS) or {head.shape[1] for head in network.heads} != {count}:
            return None
        why = f"boxes, scores of two classes and five points for each of the {count} anchors of RetinaFace"
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), ConvertColor(to="BGR"), _FEEDING)
        step = cls(softmax=by_width[2].last != "Softmax", confidence_threshold=0.5)
        return Fit((step, Nms(iou_threshold=0.4)), "likely", why, "", 1, feeding, ("face",))

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        centers, sizes = self._anchor_boxes(context)
        boxes, scores, points = (self._rows(outputs, width, len(centers)) for width in _WIDTHS)
        if boxes is None or scores is None:
            raise self.misfit(next(iter(outputs.values())).shape, "boxes [1, N, 4] and scores [1, N, 2]")
        picture, chosen = context.picture_size(), self._likely(scores)
        centers, sizes = centers[chosen], sizes[chosen]
        offsets, likely = (real_part(part, lambda values: values[chosen]) for part in (boxes, scores))
        with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
            decoded = corners(centers + offsets[:, :2] * self.variances[0] * sizes, sizes * np.exp(offsets[:, 2:] * self.variances[1]))
            faces = (1 / (1 + np.exp(likely[:, :1] - likely[:, 1:]))) if self.softmax else likely[:, 1:]
        columns = {}
        if points is not None:
            columns["keypoints"] = self._points(real_part(points, lambda values: values[chosen]), centers, sizes, picture)
        return self.chosen(decoded * np.tile(picture, 2), faces, **columns)

    def _likely(self, scores: Output) -> Array:
        """Indices of the anchors whose score may reach the threshold."""
        if not self.softmax:
            return self.candidates(view(scores, lambda values: values[:, 1:]))
        face, background = view(scores, lambda values: values[:, 1]), view(scores, lambda values: values[:, 0])
        return np.flatnonzero(difference_reaching(face, background, sigmoid, self.confidence_threshold))

    def _rows(self, outputs: RawOutputs, width: int, count: int) -> Output | None:
        """The output of `width` numbers a row; None when there is none. Raises AxforgeError when it does not have `count` rows."""
        found = next((value for value in outputs.values() if value.ndim == 3 and value.shape[2] == width), None)
        if found is None:
            return None
        if found.shape[:2] != (1, count):
            raise self.misfit(found.shape, f"[1, {count}, {width}]: a row for each anchor of each cell")
        return view(found, lambda values: values[0])

    def _points(self, rows: Array, centers: Array, sizes: Array, picture: Array) -> Array:
        moved = centers[:, np.newaxis] + rows.reshape(len(rows), 5, 2) * self.variances[0] * sizes[:, np.newaxis]
        return np.concatenate([moved * picture, np.ones_like(moved[:, :, :1])], axis=2)

    def _anchor_boxes(self, context: DecoderContext) -> tuple[Array, Array]:
        """Centres and sizes [N, 2] in shares of the picture: map by map, row by row, cell by cell, in the order of `anchors`."""
        picture, centers, sizes = context.picture_size(), [], []
        for stride, sides in zip(self.strides, self.anchors, strict=True):
            columns, rows = (-(-int(length) // stride) for length in picture)
            cells = (grid(rows, columns) + np.float32(0.5)) * np.float32(stride) / picture
            centers.append(cells.repeat(len(sides), axis=0))
            sizes.append(np.tile(np.asarray(sides, np.float32)[:, np.newaxis] / picture, (len(cells), 1)))
        return np.concatenate(centers), np.concatenate(sizes)
