"""YOLOv5: the exported head (one tensor of boxes), and raw maps (a model cut before its decoding)."""

from dataclasses import replace

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, reaching, real, real_part, view
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register


@register
class DecodeYolov5(BoxDecoder, frozen=True, tag="decode_yolov5"):
    """YOLOv5. The exported head holds centre and size in pixels, objectness, and the classes' probabilities.

    anchors: (width, height) pairs in pixels, three for each map, finest map first; only raw maps need them.
    """

    reads_codes = True
    takes = "`[1, N, 5 + classes]` as exported, or raw maps `[1, 3 * (5 + classes), H, W]`"

    classes: Count
    anchors: tuple[tuple[float, ...], ...] = (
        (10, 13, 16, 30, 33, 23),
        (30, 61, 62, 45, 59, 119),
        (116, 90, 156, 198, 373, 326),
    )

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        if network.task not in ("", "detect"):
            return None
        head = network.only
        fit = cls._maps_fit(network) if head is None else cls._rows_fit(network, head)
        if fit is None:
            return None
        feeding = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        return replace(fit, steps=(cls(classes=fit.classes), Nms(iou_threshold=0.45)), feeding=feeding)

    @classmethod
    def _rows_fit(cls, network: Network, head: Head) -> Fit | None:
        if len(head.shape) != 3 or not 6 <= head.shape[2] <= head.shape[1] or not head.computes:
            return None
        cells, classes = head.shape[1], head.shape[2] - 5
        row = f"a box, objectness and {classes} scores for each of"
        if cells % 3 == 0 and (strides := network.strides(cells // 3)):
            why = f"{list(head.shape)} is {row} 3 anchors in each cell of strides {', '.join(map(str, strides))}"
            return Fit((), "certain" if network.believable(classes) else "likely", why, classes=classes)
        if strides := network.strides(cells):
            why = f"{list(head.shape)} is {row} the cells of strides {', '.join(map(str, strides))}, and the graph decodes the boxes"
            return Fit((), "likely" if network.believable(classes) else "guess", why, "Whether boxes are where the objects are.", classes)
        return None

    @classmethod
    def _maps_fit(cls, network: Network) -> Fit | None:
        """Raw maps; that their anchors are those of YOLOv5 cannot be seen."""
        widths = {
            h.shape[4] if len(h.shape) == 5 else h.shape[1] // 3 if h.shape[1] % 3 == 0 else 0 for h in network.heads if len(h.shape) > 3
        }
        if len(network.heads) != 3 or network.map_strides() == () or len(widths) != 1 or (classes := widths.pop() - 5) < 1:
            return None
        why = f"three maps of 3 * (5 + {classes}) channels: 3 anchors in each cell, decoded outside the graph"
        check = "The anchors, and that centres and sizes are decoded as by YOLOv5: YOLOv3 and v4 have the same shapes and another formula."
        return Fit((), "likely" if network.believable(classes) else "guess", why, check, classes)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        width = 5 + self.classes
        values = list(outputs.values())
        if len(values) == 1 and values[0].ndim == 3:
            if values[0].shape[2] != width:
                raise self.misfit(values[0].shape, f"[1, N, {width}]")
            head = view(values[0], lambda exported: exported[0])
            chosen = self.candidates_of_products(view(head, lambda part: part[:, 4]), view(head, lambda part: part[:, 5:]))
            rows = real_part(head, lambda part: part[chosen])
        else:
            height = context.prepared.picture.shape[0]
            rows = np.concatenate([self._decoded(m, a, height) for m, a in zip(self._maps(values), self.anchors, strict=True)])
        return self.chosen(corners(rows[:, :2], rows[:, 2:4]), rows[:, 4:5] * rows[:, 5:])

    def _maps(self, outputs: list[Output]) -> list[Output]:
        """The raw maps as [A, 5 + classes, H, W], finest first."""
        width, anchors = 5 + self.classes, len(self.anchors[0]) // 2
        maps = []
        for output in outputs:
            if output.ndim == 5 and output.shape[1] == anchors and output.shape[4] == width:
                maps.append(view(output, lambda values: values[0].transpose(0, 3, 1, 2)))
            elif output.ndim == 4 and output.shape[1] == anchors * width:
                maps.append(view(output, lambda values: values[0].reshape(anchors, width, *values.shape[2:])))
            else:
                raise self.misfit(output.shape, f"[1, N, {width}] or [1, {anchors * width}, H, W]")
        if len(maps) != len(self.anchors):
            raise self.misfit((len(maps),), f"{len(self.anchors)} maps, one for each row of `anchors`")
        return sorted(maps, key=lambda m: -m.shape[2] * m.shape[3])

    def _decoded(self, raw: Output, anchors: tuple[float, ...], picture_height: int) -> Array:
        """Rows [n, 5 + classes] as the exported head has them, of a raw map [A, 5 + classes, H, W]: those whose objectness reaches the
        threshold, which a score is not above.

        YOLOv5 v5 and later: centre = (2 sigmoid(t) - 0.5 + cell) * stride; size = (2 sigmoid(t))^2 * anchor.
        """
        height, width = raw.shape[2:]
        stride = np.float32(picture_height / height)
        objectness = view(raw, lambda values: values[:, 4].reshape(values.shape[0], -1))
        anchor, cell = np.nonzero(reaching(objectness, sigmoid, self.confidence_threshold))
        rows = sigmoid(real(view(raw, lambda values: values.reshape(*values.shape[:2], -1)[anchor, :, cell])))
        rows[:, :2] = (rows[:, :2] * 2 - 0.5 + grid(height, width)[cell]) * stride
        rows[:, 2:4] = (rows[:, 2:4] * 2) ** 2 * np.asarray(anchors, np.float32).reshape(-1, 2)[anchor]
        return rows
