"""The operators after the network as steps of post-processing."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from axforge.axruntime.pipeline.step import PostStep
from axforge.axruntime.pipeline.steps import POST_STEPS
from axforge.axruntime.propose.voyager.values import Notes, YamlOperator

_TRACKERS = {"ocsort": "ocsort", "bytetrack": "bytetrack", "sort": "sort"}
#: Beginnings of names of networks that have the head of YOLOv5.
_LIKE_YOLOV5 = ("yolov3", "yolov4", "yolov5", "yolov7")
#: Operators whose decoder can be seen by the name alone; whether a suppression belongs to it.
_DECODERS = {
    "decodeyolo10": ("decode_yolov8", ""),
    "decodeyolopose": ("decode_yolo_pose", "nms"),
    "decodeyolo26pose": ("decode_yolo_pose", ""),
    "decodeyoloseg": ("decode_yolo_segmentation", "nms"),
    "decodeyolo26seg": ("decode_yolo_segmentation", ""),
    "decodeyoloobb": ("decode_yolo_obb", "nms_rotated"),
    "decoderetinaface": ("decode_retinaface", "nms"),
}


@dataclass
class Results:
    """The steps so far. network: its name in the file. classes: how many it tells apart, 0 if the file does not say."""

    notes: Notes
    network: str
    classes: int
    steps: list[PostStep] = field(default_factory=list)

    def add(self, operator: YamlOperator) -> None:
        """Take one operator. Raises AxforgeError for parameters that mean nothing."""
        take: dict[str, Callable[[YamlOperator], None]] = {
            "topk": self._topk,
            "decodeyolo": self._yolo,
            "semanticsegmentation": self._segmentation,
            "recognition": self._recognition,
            "tracker": self._tracker,
            "filterdetections": self._filter,
        }
        if operator.key in _DECODERS:
            self._decoder(operator, *_DECODERS[operator.key])
        elif operator.key in take:
            take[operator.key](operator)
        else:
            self.notes.lost(operator.name, "There is no such step of post-processing.", "Without a decoder the outputs are the result.")
            return
        operator.rest()

    def _step(self, tag: str, operator: YamlOperator, **parameters: object) -> None:
        """Add the step with these parameters, where they are given."""
        given = {key: value for key, value in parameters.items() if value not in (None, "", ())}
        try:
            self.steps.append(msgspec.convert({"type": tag, **given}, POST_STEPS[tag]))
        except msgspec.ValidationError as error:
            raise self.notes.error(f"{operator.name}: {error}") from None

    def _yolo(self, operator: YamlOperator) -> None:
        name = self.network.lower()
        if str(operator.peek("box_format") or "").lower() == "xywhr":
            self._decoder(operator, "decode_yolo_obb", "nms_rotated")
            return
        kind = "decode_yolov5" if name.startswith(_LIKE_YOLOV5) else "decode_yolox" if name.startswith("yolox") else "decode_yolov8"
        self._decoder(operator, kind, "nms", sure=False)

    def _decoder(self, operator: YamlOperator, kind: str, suppression: str, *, sure: bool = True) -> None:
        self._layout(operator)
        operator.take("eval", "generic_gst_decoder", "unpad", "dfl_size", "labels")
        multi, threshold = operator.flag("use_multi_label"), operator.number("conf_threshold", default=0.25)
        fields = POST_STEPS[kind].__struct_fields__
        classes = self.classes or None if "classes" in fields else None
        if "classes" in fields and not classes:
            self.notes.lost(operator.name, "The file does not say how many classes the network has (num_classes).")
            return
        self._step(kind, operator, classes=classes, confidence_threshold=threshold, multi_label=multi)
        check = "" if sure else f"Whether the head is one that {kind} reads: the file does not say; `axforge zoo add` reads the ONNX."
        why = "As the file says." if sure else "The operator decodes all YOLO heads, so the network's name is what there is to go by."
        self.notes.mapped("decoder", kind, "certain" if sure else "guess", why, check)
        self._suppression(operator, suppression)
        self._step_filter(operator)

    def _layout(self, operator: YamlOperator) -> None:
        """box_format and normalized_coord say how boxes are written, which a decoder here knows itself."""
        operator.take("box_format")
        operator.take("normalized_coord")

    def _suppression(self, operator: YamlOperator, kind: str) -> None:
        finished = operator.flag("nms_free")
        overlap, agnostic = operator.number("nms_iou_threshold", default=0.45), operator.flag("nms_class_agnostic")
        candidates, most = operator.whole("max_nms_boxes"), operator.whole("nms_top_k", "top_k")
        if kind and not finished:
            self._step(kind, operator, iou_threshold=overlap, class_agnostic=agnostic, max_candidates=candidates, max_detections=most)
            self.notes.mapped("suppression", f"overlap {overlap}" + (", all classes together" if agnostic else ""))

    def _step_filter(self, operator: YamlOperator) -> None:
        keep, drop = operator.words("label_filter"), operator.words("label_exclude")
        if keep or drop:
            self._step("filter", operator, classes=keep, exclude=drop)
            self.notes.mapped("filter", ", ".join([*keep, *(f"not {word}" for word in drop)]))

    def _topk(self, operator: YamlOperator) -> None:
        k, softmax = operator.whole("k") or 1, operator.flag("softmax")
        if operator.take("largest") is False:
            self.notes.lost("topk.largest", "The likeliest classes are shown.")
        operator.take("sorted")
        self._step("topk", operator, k=k, softmax=softmax)
        self.notes.mapped("decoder", f"topk, the best {k}")

    def _segmentation(self, operator: YamlOperator) -> None:
        for name in ("width", "height", "eval", "palette"):
            operator.take(name)  # the result has the size of the source picture, and colours of its own
        self._step("semantic_segmentation", operator)
        self.notes.mapped("decoder", "semantic_segmentation")

    def _recognition(self, operator: YamlOperator) -> None:
        metric = str(operator.take("distance_metric") or "euclidean")
        if metric != "cosine":
            self.notes.lost("recognition.distance_metric", "Embeddings are compared by the cosine of their angle.")
        self._step("embedding", operator, k=operator.whole("k") or 1)
        self.notes.mapped("decoder", "embedding")

    def _tracker(self, operator: YamlOperator) -> None:
        word = str(operator.take("algorithm") or "oc-sort")
        algorithm = _TRACKERS.get(word.replace("-", "").lower())
        if algorithm is None:
            self.notes.lost("tracker", f"There is no {word[:30]!r}; bytetrack, ocsort and sort are there.")
            return
        self._step("tracker", operator, algorithm=algorithm)
        self.notes.mapped("tracker", algorithm)

    def _filter(self, operator: YamlOperator) -> None:
        self._step("filter", operator, min_width=operator.number("min_width"), min_height=operator.number("min_height"))
        self.notes.mapped("filter", "by size")
