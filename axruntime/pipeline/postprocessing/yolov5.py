"""YOLOv5: the exported head (one tensor of boxes), and raw maps (a model cut before its decoding)."""

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, Context
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, register


@register
class DecodeYolov5(BoxDecoder, frozen=True, tag="decode_yolov5"):
    """YOLOv5. The exported head holds centre and size in pixels, objectness, and the classes' probabilities.

    anchors: (width, height) pairs in pixels, three for each map, finest map first; only raw maps need them.
    """

    takes = "`[1, N, 5 + classes]` as exported, or raw maps `[1, 3 * (5 + classes), H, W]`"

    classes: Count
    anchors: tuple[tuple[float, ...], ...] = (
        (10, 13, 16, 30, 33, 23),
        (30, 61, 62, 45, 59, 119),
        (116, 90, 156, 198, 373, 326),
    )

    def __call__(self, outputs: Outputs, context: Context) -> Candidates:
        width = 5 + self.classes
        values = list(outputs.values())
        if len(values) == 1 and values[0].ndim == 3:
            if values[0].shape[2] != width:
                raise self.misfit(values[0].shape, f"[1, N, {width}]")
            rows = values[0][0]
        else:
            height = context.prepared.picture.shape[0]
            rows = np.concatenate([_decoded(m, a, height) for m, a in zip(self._maps(values), self.anchors, strict=True)])
        return self.chosen(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:5] * rows[:, 5:])

    def _maps(self, outputs: list[Array]) -> list[Array]:
        """The raw maps as [A, 5 + classes, H, W], finest first."""
        width = 5 + self.classes
        maps = []
        for output in outputs:
            anchors = len(self.anchors[0]) // 2
            if output.ndim == 5 and output.shape[1] == anchors and output.shape[4] == width:
                maps.append(output[0].transpose(0, 3, 1, 2))
            elif output.ndim == 4 and output.shape[1] == anchors * width:
                maps.append(output[0].reshape(anchors, width, *output.shape[2:]))
            else:
                raise self.misfit(output.shape, f"[1, N, {width}] or [1, {anchors * width}, H, W]")
        if len(maps) != len(self.anchors):
            raise self.misfit((len(maps),), f"{len(self.anchors)} maps, one for each row of `anchors`")
        return sorted(maps, key=lambda m: -m.shape[2] * m.shape[3])


def _decoded(raw: Array, anchors: tuple[float, ...], picture_height: int) -> Array:
    """Rows [A * H * W, 5 + classes] of a raw map [A, 5 + classes, H, W], as the exported head has them.

    YOLOv5 v5 and later: centre = (2 sigmoid(t) - 0.5 + cell) * stride; size = (2 sigmoid(t))^2 * anchor.
    """
    height, width = raw.shape[2:]
    stride = np.float32(picture_height / height)
    values = sigmoid(raw.reshape(raw.shape[0], raw.shape[1], -1).transpose(0, 2, 1))
    sizes = np.asarray(anchors, np.float32).reshape(-1, 1, 2)
    values[..., :2] = (values[..., :2] * 2 - 0.5 + grid(height, width)) * stride
    values[..., 2:4] = (values[..., 2:4] * 2) ** 2 * sizes
    return values.reshape(-1, raw.shape[1])
