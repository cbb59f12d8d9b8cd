"""SSD: single-shot detectors with anchors, such as SSD-MobileNet, and those whose ONNX gives decoded boxes."""

from typing import Annotated, Literal

from msgspec import Meta

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, grid, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.codes import Output, RawOutputs, best, difference_reaching, reaching, real_part, view
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Fit, register

Four = Annotated[tuple[float, ...], Meta(min_length=4, max_length=4)]
Activation = Literal["none", "softmax", "sigmoid"]
#: Fewer boxes than this are the answers to queries, as of DETR, and not one for each anchor.
_FEWEST_BOXES = 1000
Grid = Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]


@register
class DecodeSsd(BoxDecoder, frozen=True, tag="decode_ssd"):
    """SSD: centre = anchor's centre + t * variance * anchor's size, size = anchor's size * exp(t * variance); all in shares of the picture.

    anchors: for each map, finest first, (width, height) pairs in shares of the picture; without them the boxes are corners in 0..1 already.
    grids: (columns, rows) of each map. variances: of x, y, width, height. order: whether x or y is first in `boxes`.
    activation: what the network leaves to do to the scores. background: class 0 is none of the labels.
    scores, boxes: names of these outputs.
    """

    reads_codes = True
    takes = "scores `[1, N, classes]` and boxes `[1, N, 4]`"

    classes: Count
    anchors: tuple[tuple[float, ...], ...] = ()
    grids: tuple[Grid, ...] = ()
    variances: Four = (0.1, 0.1, 0.2, 0.2)
    order: Literal["xy", "yx"] = "xy"
    activation: Activation = "none"
    background: bool = True
    scores: str = "scores"
    boxes: str = "boxes"

    def __post_init__(self) -> None:
        if len(self.anchors) != len(self.grids):
            raise ValueError(
                f"`anchors` has {len(self.anchors)} maps and `grids` has {len(self.grids)}; give both for each map, or neither"
            )
        if any(len(sizes) % 2 or not sizes or min(sizes) <= 0 for sizes in self.anchors):
            raise ValueError("`anchors` are (width, height) pairs above 0, at least one for each map")

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        """Only boxes that the graph decodes: anchors cannot be seen in a graph that leaves them to the host."""
        boxes = [head for head in network.heads if len(head.shape) == 3 and head.shape[2] == 4 and head.computes]
        scores = [head for head in network.heads if len(head.shape) == 3 and head.shape[2] != 4]
        if len(network.heads) != 2 or not boxes or not scores or not scores[0].shape[1] == boxes[0].shape[1] > _FEWEST_BOXES:
            return None
        width, last = scores[0].shape[2], scores[0].last
        background = not network.believable(width)
        if (classes := width - background) < 1:
            return None
        activation: Activation = "none" if last in ("Softmax", "Sigmoid") else "softmax"
        decoder = cls(classes=classes, background=background, activation=activation, scores=scores[0].name, boxes=boxes[0].name)
        why = f"{boxes[0].shape[1]} boxes that the graph computes, with {width} scores each"
        check = "Whether boxes are corners in shares of the picture, whether x or y is first, and whether class 0 is the background."
        return Fit((decoder, Nms(iou_threshold=0.45)), "guess", why, check, classes)

    def __call__(self, outputs: RawOutputs, context: DecoderContext) -> Candidates:
        scores, boxes = self.named(outputs, self.scores), self.named(outputs, self.boxes)
        width = self.classes + self.background
        if scores.ndim != 3 or scores.shape[0] != 1 or scores.shape[2] != width or boxes.shape != (*scores.shape[:2], 4):
            raise self.misfit(scores.shape, f"[1, N, {width}] with boxes [1, N, 4], which here are {list(boxes.shape)}")
        chosen = self._likely(view(scores, lambda values: values[0]))
        rows = real_part(boxes, lambda values: values[0, chosen])
        rows = rows if self.order == "xy" else rows[:, [1, 0, 3, 2]]
        if self.anchors:
            rows = self._decoded(rows, chosen, boxes.shape[1])
        probabilities = self._probabilities(real_part(scores, lambda values: values[0, chosen]))
        return self.chosen(rows * np.tile(context.picture_size(), 2), probabilities[:, int(self.background) :])

    def _likely(self, scores: Output) -> Array:
        """Indices of the boxes of which a score [N, width] may reach the threshold after the activation."""
        classes = best(view(scores, lambda values: values[:, int(self.background) :]), 1)
        if self.activation != "softmax":
            return np.flatnonzero(reaching(classes, sigmoid if self.activation == "sigmoid" else np.asarray, self.confidence_threshold))
        if not self.background:
            return np.arange(scores.shape[0])
        # of all classes together, the softmax is not above that of a class and the background alone
        background = view(scores, lambda values: values[:, 0])
        return np.flatnonzero(difference_reaching(classes, background, sigmoid, self.confidence_threshold))

    def _decoded(self, rows: Array, chosen: Array, count: int) -> Array:
        """Corners [n, 4] from rows of offsets [n, 4] to the anchors at `chosen`; the network has `count` boxes."""
        centers, sizes = self._anchor_boxes()
        if count != len(centers):
            raise self.misfit((1, count, 4), f"[1, {len(centers)}, 4]: one box for each anchor of each cell of `grids`")
        centers, sizes = centers[chosen], sizes[chosen]
        steps = rows * np.asarray(self.variances, np.float32)
        with np.errstate(over="ignore"):  # a box of infinite size is clipped to the picture
            return corners(centers + steps[:, :2] * sizes, sizes * np.exp(steps[:, 2:]))

    def _anchor_boxes(self) -> tuple[Array, Array]:
        """Centres and sizes [N, 2] of all anchors: map by map, row by row, cell by cell, in the order of `anchors`."""
        centers, sizes = [], []
        for (columns, rows), pairs in zip(self.grids, self.anchors, strict=True):
            cells = (grid(rows, columns) + np.float32(0.5)) / np.array([columns, rows], np.float32)
            each = np.asarray(pairs, np.float32).reshape(-1, 2)
            centers.append(cells.repeat(len(each), axis=0))
            sizes.append(np.tile(each, (len(cells), 1)))
        return np.concatenate(centers), np.concatenate(sizes)

    def _probabilities(self, scores: Array) -> Array:
        if self.activation == "sigmoid":
            return sigmoid(scores)
        if self.activation == "softmax":
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            return weights / weights.sum(axis=1, keepdims=True)
        return scores
