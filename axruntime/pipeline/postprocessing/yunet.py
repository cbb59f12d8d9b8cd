"""YuNet."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, grid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, reaching, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register

_STRIDES = (8, 16, 32)
_WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


@register
class DecodeYuNet(BoxDecoder, frozen=True, tag="decode_yunet"):
    """YuNet, for faces: of each cell a class score, objectness, a box and five points. The score is the root of the first two's product.

    centre = (cell + t) * stride, size = exp(t) * stride; points = (cell + t) * stride.
    strides: of the maps; the outputs are named `cls_8`, `obj_8`, `bbox_8`, `kps_8` and so on.
    """

    reads_codes = True
    takes = "for each stride `cls_S` and `obj_S` `[1, N, 1]`, `bbox_S` `[1, N, 4]` and `kps_S` `[1, N, 10]`"

    strides: tuple[Count, ...] = _STRIDES

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        shapes = {head.name: head.shape[-2:] for head in network.heads}
        expected = {f"{name}_{s}": (network.points((s,)), width) for s in _STRIDES for name, width in _WIDTHS.items()}
        if not network.height or shapes != expected:
            return None
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), ConvertColor(to="BGR"))
        why = "outputs are named and shaped as those of YuNet"
        return Fit((cls(confidence_threshold=0.6), Nms(iou_threshold=0.3)), "certain", why, "", 1, feeding, ("face",))

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        parts = [self._decoded(outputs, stride, context) for stride in self.strides]
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        return self.chosen(boxes, scores, keypoints=points)

    def _decoded(self, outputs: RawOutputs, stride: int, context: DecoderContext) -> tuple[Array, Array, Array]:
        """Boxes [n, 4], scores [n, 1] and points [n, 5, 3] of the map of a stride, where the score may reach the threshold."""
        columns, rows = (-(-int(length) // stride) for length in context.picture_size())
        cells, size = grid(rows, columns), np.float32(stride)
        parts = [self._rows(outputs, f"{name}_{stride}", len(cells), w) for name, w in _WIDTHS.items()]
        # the product of two shares is not above either of them
        likely = [reaching(part, _root, self.confidence_threshold)[:, 0] for part in parts[:2]]
        chosen = np.flatnonzero(likely[0] & likely[1])
        share, presence, boxes, points = (real_part(part, lambda values: values[chosen]) for part in parts)
        cells, scores = cells[chosen], np.sqrt(np.clip(share, 0, 1) * np.clip(presence, 0, 1))
        with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
            decoded = corners((cells + boxes[:, :2]) * size, np.exp(boxes[:, 2:]) * size)
        moved = (cells[:, np.newaxis] + points.reshape(len(cells), 5, 2)) * size
        return decoded, scores, np.concatenate([moved, np.ones_like(moved[:, :, :1])], axis=2)

    def _rows(self, outputs: RawOutputs, name: str, count: int, width: int) -> Output:
        value = self.named(outputs, name)
        if value.shape not in ((1, count, width), (count, width)):
            raise self.misfit(value.shape, f"[1, {count}, {width}] as {name}")
        return view(value, lambda values: values.reshape(count, width))


def _root(share: Array) -> Array:
    return np.asarray(np.sqrt(np.clip(share, 0, 1)))
