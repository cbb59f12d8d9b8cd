"""Heads of well-known kinds that no decoder of this version reads. A decoder that says it fits is asked first."""

from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import Decoder, Fit, PreStep
from axforge.axruntime.pipeline.steps import POST_STEPS

#: A detector by queries gives at most so many boxes.
_MOST_BOXES = 1000


def unread(network: Network) -> Fit | None:
    """What the outputs most likely are, without steps that read them; None when they are of no known kind."""
    if kind := _yolo_kind(network):
        feeding: tuple[PreStep, ...] = (Resize(width=network.width, height=network.height, letterbox=True), Normalize())
        return Fit((), "likely", kind, feeding=feeding)
    kind = _other_kind(network)
    return Fit((), "likely", kind) if kind else None


def _yolo_kind(network: Network) -> str:
    """Kinds of heads that YOLO networks have besides plain boxes."""
    shapes = [head.shape for head in network.heads]
    if len(shapes) == 2 and len(shapes[0]) == 3 and len(shapes[1]) == 4 and shapes[0][1] > 4 + shapes[1][1]:
        return f"boxes with {shapes[1][1]} mask coefficients, and masks (instance segmentation)"
    if network.only is not None:
        return _yolo_rows(network, network.only)
    if len(shapes) > 3 and network.map_strides():
        return "raw maps with boxes and class scores in outputs of their own"
    return ""


def _yolo_rows(network: Network, head: Head) -> str:
    shape = head.shape
    if len(shape) != 3:
        return ""
    if not network.strides(shape[2]):
        rows = network.strides(shape[1]) and shape[2] > 4 and head.computes
        return "boxes and class scores in rows (the decoder of YOLOv8 wants them in columns)" if rows else ""
    return ""


def _other_kind(network: Network) -> str:
    shapes = [head.shape for head in network.heads]
    if len(shapes) == 2 and all(len(s) == 3 for s in shapes) and shapes[0][1] == shapes[1][1] and 4 in (shapes[0][2], shapes[1][2]):
        if shapes[0][1] <= _MOST_BOXES:
            return f"{shapes[0][1]} queries with class scores and boxes, as of DETR"
        return "class scores and offsets to anchors, as of SSD: give decode_ssd the anchors"
    if len(shapes) in (3, 4) and any(len(s) == 3 and s[2] == 4 for s in shapes) and all(len(s) <= 3 for s in shapes):
        return "boxes, scores and classes after non-maximum suppression, in outputs of their own"
    only = network.only
    if only is not None and only.integer and len(only.shape) in (3, 4) and only.shape[-2:] == (network.height, network.width):
        return "the class of each pixel, chosen inside the graph"
    if only is not None and only.last == "Softmax" and len(only.shape) == 3:
        return "class scores along a sequence, as of text recognition"
    return ""


def decoders() -> str:
    """The decoders with the outputs that each takes, one on each line."""
    return "\n".join(f"  {tag}: {step.takes}" for tag, step in POST_STEPS.items() if issubclass(step, Decoder))
