"""DETR and its successors: a set of boxes, without anchors and without suppression."""

from typing import Literal

from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.boxes import corners, sigmoid
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import BoxDecoder, Certainty, Count, Fit, Outputs, register

#: More boxes than this are one for each anchor, as of SSD.
_MOST_QUERIES = 1000
_FEEDING = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@register
class DecodeDetr(BoxDecoder, frozen=True, tag="decode_detr"):
    """DETR, RT-DETR and D-FINE: for each query class scores and a box as centre and size in shares of the picture. It needs no nms.

    activation: `softmax` for logits whose last class means "no object" (DETR); `sigmoid` for logits of the classes alone (RT-DETR,
    Deformable DETR); `none` for probabilities of the classes alone. logits, boxes: names of these outputs.
    """

    takes = "logits `[1, N, classes + 1]`, or `[1, N, classes]`, and boxes `[1, N, 4]`"

    classes: Count
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    logits: str = "logits"
    boxes: str = "pred_boxes"

    @classmethod
    def fits(cls, network: Network) -> Fit | None:
        found = cls._told_apart(network)
        if found is None:
            return None
        scores, boxes = found
        width = scores.shape[2]
        known = network.believable(width)
        activation: Literal["softmax", "sigmoid", "none"] = "none" if scores.last == "Sigmoid" else "sigmoid" if known else "softmax"
        classes = width if known or activation == "none" else width - 1
        sure: Certainty = "likely" if boxes.last == "Sigmoid" or network.believable(classes) else "guess"
        why = f"{scores.shape[1]} queries with {width} class scores and a box each, as of DETR"
        check = "Whether the last class means that there is no object (`activation`)."
        feeding = (Resize(width=network.width, height=network.height), _FEEDING) if activation == "softmax" else ()
        step = cls(classes=classes, activation=activation, logits=scores.name, boxes=boxes.name, confidence_threshold=0.5)
        return Fit((step,), sure, why, check, classes, feeding)

    @staticmethod
    def _told_apart(network: Network) -> tuple[Head, Head] | None:
        """The outputs with scores and with boxes; None when the network is of another kind."""
        if len(network.heads) != 2 or any(len(head.shape) != 3 for head in network.heads):
            return None
        boxes = [head for head in network.heads if head.shape[2] == 4]
        scores = [head for head in network.heads if head.shape[2] not in (1, 2, 4)]  # two scores are background and face, as of UltraFace
        if len(boxes) != 1 or len(scores) != 1 or not scores[0].shape[1] == boxes[0].shape[1] <= _MOST_QUERIES:
            return None
        return scores[0], boxes[0]

    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        logits, boxes = self.named(outputs, self.logits), self.named(outputs, self.boxes)
        width = self.classes + (self.activation == "softmax")
        if logits.ndim != 3 or logits.shape[0] != 1 or logits.shape[2] != width or boxes.shape != (*logits.shape[:2], 4):
            raise self.misfit(logits.shape, f"[1, N, {width}] with boxes [1, N, 4], which here are {list(boxes.shape)}")
        rows = boxes[0] * np.tile(context.picture_size(), 2)
        return self.chosen(corners(rows[:, :2], rows[:, 2:]), self._probabilities(logits[0]))

    def _probabilities(self, logits: Array) -> Array:
        """The probabilities of the classes, without that of "no object"."""
        if self.activation == "softmax":
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            return (weights / weights.sum(axis=1, keepdims=True))[:, :-1]
        return sigmoid(logits) if self.activation == "sigmoid" else logits
