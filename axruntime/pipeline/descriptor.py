"""`model.json`: what it may hold and how it is read. Light to import (no NumPy, no ONNX, no OpenCV)."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.axruntime.pipeline import labels, problems
from axforge.axruntime.pipeline.step import Share
from axforge.axruntime.pipeline.steps import TASKS, PostStep, PreStep

#: Increase it when the code of a pre-processing step gives other values for the same picture.
PREPROCESSING_VERSION = 1
#: Distributions that decide the values of a feed.
FEEDING_LIBRARIES = ("numpy", "opencv-python-headless", "pillow")
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
if TYPE_CHECKING:
    Task = str
else:  # of the kinds of result that there are
    Task = Literal[TASKS]


class DescriptorPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object in model.json."""


class Source(DescriptorPart, frozen=True):
    """Where the ONNX comes from: one of `file` (below the data root), `url` (with a checksum) or `builder` (module:function).

    A builder is called with (data_root: Path | None, out: Path). reads: files below the data root that a builder reads.
    """

    file: str | None = None
    url: Annotated[str, Meta(pattern="^https?://")] | None = None
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    builder: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(kind is not None for kind in (self.file, self.url, self.builder)) != 1:
            raise ValueError("Give exactly one of `file`, `url` and `builder`")
        if self.url is not None and self.sha256 is None and self.md5 is None:
            raise ValueError("A `url` needs `sha256` or `md5`")


class Calibration(DescriptorPart, frozen=True):
    """Samples to find value ranges with: a folder of images or an .npz below the data root.

    samples: without that folder, take photos that installed packages ship, or, with "text", lines of text drawn on them.
    count: how many samples, unless an option says otherwise.
    """

    path: str
    count: Annotated[int, Meta(ge=1)] = 100
    samples: bool | Literal["text"] = False


class DatasetSpec(DescriptorPart, frozen=True):
    """What accuracy is measured on, below the data root.

    The thresholds replace those of the pipeline while measuring: a mean average precision needs the unlikely boxes too.
    class_map: the dataset's class of each output, for a network whose classes are not the dataset's.
    judged_classes: of a mask; pixels of other classes (blended edges, say) do not count.
    max_loss: points of the main metric that the compiled model may lose before `accuracy` calls it worse.
    """

    type: Literal["image-folder", "yolo", "coco", "npz", "segmentation"]
    path: str
    split: str | None = None
    class_map: tuple[int, ...] | None = None
    judged_classes: tuple[int, ...] | None = None
    confidence_threshold: Share | None = None
    iou_threshold: Share | None = None
    max_loss: Annotated[float, Meta(ge=0, le=100)] | None = None


class PublishedFigure(DescriptorPart, frozen=True):
    """A published or measured figure: name of the metric, value in per cent, and its source."""

    metric: str
    value: float
    source: str


class Descriptor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pipeline of one model. `load_descriptor` reads `labels` into the names themselves.

    model: path of the compiled model below the build folder. published: SHA-256 of the files of a compiled folder by name, written into
    the model.json there (`deployed/seal.py`) and not by hand. compile: by stage name, what differs from the stage's defaults
    (the fields of the configurations in axcompiler/stages.py).
    """

    schema: str = msgspec.field(name="$schema", default="")
    name: Name
    model: str = ""
    description: str = ""
    task: Task | None = None
    source: Source | None = None
    preprocessing: tuple[PreStep, ...]
    postprocessing: tuple[PostStep, ...] = ()
    labels: str | tuple[str, ...] = ()
    calibration: Calibration | None = None
    dataset: DatasetSpec | None = None
    compile: dict[str, dict[str, Any]] = {}
    license: str = ""
    reference: tuple[PublishedFigure, ...] = ()
    published: dict[str, Sha256] = {}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class names in order, () when the model has none."""
        return self.labels if isinstance(self.labels, tuple) else ()

    @property
    def models_run(self) -> tuple[str, ...]:
        """Names of other models that post-processing runs, each once."""
        return tuple(dict.fromkeys(name for step in self.postprocessing for name in step.models_run()))


def parse_descriptor(data: bytes, where: str) -> Descriptor:
    """The descriptor in `data`. Raises AxforgeError that names `where` and the place in it. Labels stay as they are written."""
    try:
        try:
            descriptor = msgspec.json.decode(data, type=Descriptor)
        except msgspec.ValidationError as e:
            raise problems.explain(e, data, Descriptor, where) from None  # reads on, and may find what is not even JSON
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise AxforgeError(f"invalid JSON: {e}", where=where, fix="Correct the file; any JSON checker shows the place.") from None
    except RecursionError:
        raise AxforgeError("the JSON is nested too deeply", where=where, fix="A model.json has at most six levels.") from None
    _check_compile(descriptor.compile, where)
    return descriptor


def load_descriptor(path: Path, label_roots: Iterable[Path] = ()) -> Descriptor:
    """The descriptor at `path`, its labels read.

    A label file is looked for beside model.json, in `labels` beside its folder, and in `label_roots`.
    Raises AxforgeError when a file is missing, malformed, or has an unknown key.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise AxforgeError(f"the descriptor cannot be read: {e.strerror}", where=str(path)) from e
    descriptor = parse_descriptor(data, str(path))
    if isinstance(descriptor.labels, tuple):
        return descriptor
    names = labels.read(descriptor.labels, labels.folders_of(path, tuple(label_roots)), str(path))
    return msgspec.structs.replace(descriptor, labels=names)


def _check_compile(overrides: dict[str, dict[str, Any]], where: str) -> None:
    for stage, fields in overrides.items():
        at = f"{where}: compile"
        if stage not in BY_NAME:
            raise AxforgeError(f"there is no stage '{stage}'", where=at, fix=problems.suggest(stage, BY_NAME, "stage"))
        config = BY_NAME[stage].config
        known = (
            {f.name: f.type for f in msgspec.structs.fields(config)} if issubclass(config, msgspec.Struct) else config.__dataclass_fields__
        )
        for key in fields:
            if key not in known:
                what = f"stage '{stage}' has no option '{key}'"
                raise AxforgeError(what, where=f"{at}.{stage}", fix=problems.suggest(key, known, "option"))
        try:
            msgspec.convert(fields, config)
        except msgspec.ValidationError as e:
            message, _, place = str(e).partition(" - at `$")
            raise AxforgeError(message, where=f"{at}.{stage}{place.rstrip('`')}") from None


def stage_options(descriptor: Descriptor, stage: str) -> dict[str, Any]:
    """The options of a stage that the descriptor sets, with the types of its fields (tuples, not lists)."""
    fields = descriptor.compile.get(stage, {})
    config = msgspec.convert(fields, BY_NAME[stage].config)
    return {key: getattr(config, key) for key in fields}


def preprocessing_fingerprint(descriptor: Descriptor) -> str:
    """Canonical JSON of what feeds the network: all parameters of pre-processing with their defaults, and nothing else.

    Equal fingerprints (and library versions, see FEEDING_LIBRARIES) mean equal feeds for equal samples.
    """
    steps = [{"type": step.tag(), **msgspec.structs.asdict(step)} for step in descriptor.preprocessing]
    return msgspec.json.encode({"version": PREPROCESSING_VERSION, "steps": steps}, order="sorted").decode()
