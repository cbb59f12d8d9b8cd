"""A whole network YAML as a proposal: what became of each part, and what could not be mapped."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from axforge.axruntime.pipeline.chain import kind_of_result
from axforge.axruntime.pipeline.descriptor import Descriptor, Source
from axforge.axruntime.pipeline.step import PostStep
from axforge.axruntime.propose.labels import read_label_files
from axforge.axruntime.propose.proposal import Proposal
from axforge.axruntime.propose.propose import model_name
from axforge.axruntime.propose.voyager.file import read_yaml
from axforge.axruntime.propose.voyager.pictures import Feeding
from axforge.axruntime.propose.voyager.results import Results
from axforge.axruntime.propose.voyager.values import Notes, operators, section

#: Label files of the SDK that are here under other names.
_LABELS = {"coco.names": "coco.txt", "imagenet1000_clsidx_to_labels.txt": "imagenet.txt", "cifar10.names": "cifar10.txt"}
#: Names of quantization schemes of the SDK, and ours; '' is what is done anyway.
_SCHEMES = {"per_tensor_min_max": "minmax", "per_tensor_histogram": "mse", "hybrid_per_tensor_per_channel": ""}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_CROP: dict[str, object] = {"centercrop": {"width": "${{input_width}}", "height": "${{input_height}}"}}
_BOX: dict[str, object] = {"letterbox": {"width": "${{input_width}}", "height": "${{input_height}}"}}
#: What the pipeline templates of the SDK feed; a file names one and gives the rest itself.
_TEMPLATES: dict[str, list[dict[str, object]]] = {
    "torch-imagenet": [{"resize": {"size": 256}}, _CROP, {"torch-totensor": None}, {"normalize": _IMAGENET}],
    "timm-imagenet": [
        {"resize": {"size": "${{resize_size}}", "interpolation": "bicubic"}},
        _CROP,
        {"torch-totensor": None},
        {"normalize": _IMAGENET},
    ],
    "yolo-letterbox": [_BOX, {"torch-totensor": None}],
    "yolopose-letterbox": [_BOX, {"torch-totensor": None}],
    "yoloseg-letterbox": [_BOX, {"torch-totensor": None}],
    "yolox-letterbox": [_BOX, {"torch-totensor": None}, {"normalize": _IMAGENET}],
    "ssd-tensorflow": [
        {"resize": {"width": "${{input_width}}", "height": "${{input_height}}"}},
        {"torch-totensor": {"scale": False}},
        {"linear-scaling": {"mean": 127.5, "shift": -1}},
    ],
}
#: What they do with the outputs, where the file does not say.
_ENDS: dict[str, list[dict[str, object]]] = {
    "torch-imagenet": [{"topk": {"k": 5}}],
    "timm-imagenet": [{"topk": {"k": 5}}],
    "yolo-letterbox": [{"decodeyolo": {"nms_class_agnostic": True}}],
    "yolopose-letterbox": [{"decodeyolopose": None}],
    "yoloseg-letterbox": [{"decodeyoloseg": None}],
    "yolox-letterbox": [{"decodeyolo": {"nms_class_agnostic": True}}],
}


def imported(path: Path, label_folders: Sequence[Path] = (), name: str = "", network: str = "") -> Proposal:
    """The proposal for a network of the YAML at `path`. name: of the model; made of the network's if ''.

    network: which one, where the file has several. Raises AxforgeError for a file that is not such a YAML, or has a mistake.
    """
    document, notes = read_yaml(path), Notes(str(path))
    chosen, model, task = _chosen(document, network, notes)
    shape, nhwc = _shape(model, notes)
    variables = {"input_height": shape[0], "input_width": shape[1], **section(model.get("extra_kwargs"), "extra_kwargs", notes)}
    template = PurePosixPath(str(task.get("template_path") or "")).stem
    picture = Feeding(notes, nhwc=nhwc)
    picture.colour(model.get("input_color_format") or section(task.get("input"), "input", notes).get("color_format"), "colours")
    for operator in operators(_part(task, "preprocess", template, notes), "preprocess", variables, notes):
        picture.add(operator)
    classes = _classes(model, notes)
    results = Results(notes, chosen, classes)
    for operator in operators(_part(task, "postprocess", template, notes), "postprocess", variables, notes):
        results.add(operator)
    names = _labels(document, model, classes, label_folders, notes)
    called = name or model_name(Path(chosen))
    descriptor = Descriptor(
        name=called,
        model=f"{called}/1/model.axmodel",
        description=" ".join(str(document.get("description") or "").split())[:500],
        task=kind_of_result(results.steps).task or None if results.steps else None,
        source=_source(model, notes),
        preprocessing=picture.done(),
        postprocessing=tuple(_ordered(results.steps)),
        labels=names,
        compile=_compile(model, notes),
    )
    _unread(document, model, task, notes)
    return Proposal(descriptor, tuple(notes.choices), path)


def _chosen(document: Mapping[str, object], wanted: str, notes: Notes) -> tuple[str, dict[str, object], dict[str, object]]:
    """The network, what `models` says of it, and its part of the pipeline."""
    models = section(document.get("models"), "models", notes)
    if not models:
        raise notes.error("There is no `models` in it.", "Name the YAML of a network of the SDK (axelera-model-format).")
    if (wanted and wanted not in models) or (not wanted and len(models) > 1):
        what = f"There is no network {wanted!r}" if wanted else f"It has {len(models)} networks"
        raise notes.error(f"{what}: {', '.join(models)}.", "Choose one with --network NAME; each is a model of its own.")
    chosen = wanted or next(iter(models))
    parts = [pair for item in _list(document.get("pipeline")) for pair in section(item, "pipeline", notes).items()]
    tasks = [{"model_name": key} | section(part, key, notes) for key, part in parts]
    mine = [task for task in tasks if task["model_name"] == chosen]
    if not mine and tasks:
        notes.lost("pipeline", "No task of the pipeline is this network's, so neither its pre- nor its post-processing is known.")
    return chosen, section(models[chosen], f"models.{chosen}", notes), mine[0] if mine else {}


def _part(task: Mapping[str, object], name: str, template: str, notes: Notes) -> object:
    """The operators of a task's `preprocess` or `postprocess`: its own, else those of its template."""
    own, known = task.get(name), _TEMPLATES if name == "preprocess" else _ENDS
    if own is not None or not template:
        return own
    if template not in known:
        why = f"What the template {template[:40]!r} does for `{name}` is in a file of the SDK."
        notes.lost("template_path", why, f"The steps of {name}.")
        return None
    notes.mapped("template", template, "likely", "As that template of the SDK says.")
    return known[template]


def _shape(model: Mapping[str, object], notes: Notes) -> tuple[tuple[int, int], bool]:
    """Height and width of the input, and whether channels come last."""
    nhwc = str(model.get("input_tensor_layout") or "NCHW").upper() == "NHWC"
    shape = model.get("input_tensor_shape")
    lengths = shape if isinstance(shape, list) else []
    if len(lengths) != 4 or not all(isinstance(length, int) and 0 < length <= 1 << 14 for length in lengths):
        raise notes.error("input_tensor_shape is not four lengths, such as [1, 3, 640, 640].", "Correct the file.")
    return ((lengths[1], lengths[2]) if nhwc else (lengths[2], lengths[3])), nhwc


def _classes(model: Mapping[str, object], notes: Notes) -> int:
    classes = model.get("num_classes")
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or not 0 <= classes <= 1 << 20):
        raise notes.error("num_classes is not a number of classes.", "Correct the file.")
    return classes or 0


def _source(model: Mapping[str, object], notes: Notes) -> Source | None:
    url, md5 = str(model.get("weight_url") or ""), str(model.get("weight_md5") or "")
    wanted = "Give the network: --onnx PATH."
    if not url:
        notes.lost("weights", "The file has no weight_url.", wanted)
    elif not url.split("?")[0].endswith(".onnx"):
        notes.lost("weights", "weight_url is not an ONNX; checkpoints are not read.", wanted)
    elif not re.fullmatch(r"https?://\S+", url) or not re.fullmatch(r"[0-9a-f]{32}", md5):
        notes.lost("weights", "weight_url is not an address of http(s) with a weight_md5.", wanted)
    else:
        notes.mapped("weights", url.rsplit("/", 1)[-1], "certain", "Fetched, and compared with weight_md5.")
        return Source(url=url, md5=md5)
    return None


def _labels(
    document: Mapping[str, object], model: Mapping[str, object], classes: int, folders: Sequence[Path], notes: Notes
) -> str | tuple[str, ...]:
    data = section(section(document.get("datasets"), "datasets", notes).get(str(model.get("dataset"))), "datasets", notes)
    listed = data.get("labels")
    if isinstance(listed, list) and listed:
        notes.mapped("labels", f"{len(listed)} names")
        return tuple(str(name) for name in listed)
    called = PurePosixPath(str(data.get("labels_path") or "")).name
    known = read_label_files(folders).get(_LABELS.get(called, ""))
    if known is not None and classes in (0, len(known)):
        notes.mapped("labels", _LABELS[called], "certain", f"It has the names of {called}.")
        return _LABELS[called]
    what = f"{called[:60]} is a file of the SDK" if called else "The file names none"
    notes.lost("labels", f"{what}; numbers are shown.", "`labels` takes a list, or a file with one name on each line.")
    return ()


def _compile(model: Mapping[str, object], notes: Notes) -> dict[str, dict[str, object]]:
    extra = section(model.get("extra_kwargs"), "extra_kwargs", notes)
    given = section(extra.get("compilation_config"), "compilation_config", notes)
    quantization = section(given.pop("quantization_config", None), "quantization_config", notes)
    scheme = str(quantization.pop("ptq_scheme", None) or given.pop("quantization_scheme", None) or "")
    for key in [*given, *quantization, *(key for key in extra if key not in ("compilation_config", "resize_size"))]:
        notes.lost(f"extra_kwargs.{key}", "An option of another compiler.")
    if scheme and scheme not in _SCHEMES:
        notes.lost("ptq_scheme", f"There is no scheme {scheme[:40]!r}; the default is taken.")
    ours = _SCHEMES.get(scheme, "")
    if scheme in _SCHEMES:
        notes.mapped("ptq_scheme", ours or "the default")
    return {"quantize": {"scheme": ours}} if ours else {}


def _unread(document: Mapping[str, object], model: Mapping[str, object], task: Mapping[str, object], notes: Notes) -> None:
    """Note what has no counterpart."""
    data = section(section(document.get("datasets"), "datasets", notes).get(str(model.get("dataset"))), "datasets", notes)
    pictures = [key for key in ("repr_imgs_dir_path", "cal_data") if data.get(key)]
    why = f"{' and '.join(pictures)} are paths of the SDK" if pictures else "The file names no pictures"
    notes.lost("calibration", f"{why}; photos that packages ship are taken.", 'Add "calibration": {"path": FOLDER}.')
    for name in section(task.get("inference"), "inference", notes):
        notes.lost(f"inference.{name}", "Where each part of a network runs is decided by the compiler.")


def _ordered(steps: Sequence[PostStep]) -> list[PostStep]:
    """Trackers see all boxes, so filters come after them."""
    return sorted(steps, key=lambda step: step.tag() == "filter")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
