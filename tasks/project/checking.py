"""Looks for a user's mistakes in a model before anything is compiled, all of them in one go.

`described` needs model.json alone, and runs before every compilation. `against_network` and `on_cpu` need what the stages fetch and
check leave behind; `axforge check` runs these stages and shows everything.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from axforge.axcompiler import support
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.axcompiler.support import Share
from axforge.tasks.project.engines import FLOAT
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import MODELS, PROJECT

if TYPE_CHECKING:
    from axforge.axruntime.lazy import Array
    from axforge.axruntime.pipeline.descriptor import Descriptor
    from axforge.axruntime.propose.graph import OnnxGraph

Level = Literal["error", "warning", "note"]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Finding:
    """Something a user should know. An error keeps the model from working, a warning makes it worse, a note is only good to know."""

    level: Level
    what: str
    fix: str = ""

    def line(self) -> str:
        """The finding as text for people."""
        return f"{self.level}: {self.what}" + (f"\n    {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class OnCpu:
    """Operators of one type that do not run on the AIPU. values: how many numbers they compute for each picture, 0 if that is not known."""

    op_type: str
    count: int
    place: str
    values: int
    reason: str


def refuse_mistakes(plan: BuildPlan, *, warn: bool = True) -> None:
    """Raises AxforgeError with all mistakes that model.json shows. warn: say what is only doubtful, too."""
    if PROJECT.only_looks:
        return
    found = described(plan, calibrates=_calibrates(plan))
    for finding in found:
        if warn and finding.level == "warning":
            plan.channel.say(f"{plan.model.name}: {finding.what}" + (f"\n  {finding.fix}" if finding.fix else ""))
    errors = [finding for finding in found if finding.level == "error"]
    if len(errors) == 1:
        raise AxforgeError(errors[0].what, where=str(plan.model.path), fix=errors[0].fix)
    if errors:
        lines = "\n".join(f"- {finding.what} {finding.fix}".rstrip() for finding in errors)
        raise AxforgeError(f"{len(errors)} mistakes:\n{lines}", where=str(plan.model.path))


def share_of(plan: BuildPlan) -> Share:
    """How much of the network's work the AIPU does. Reads what the stage check left behind."""
    return Share.of(json.loads(plan.outputs(BY_NAME["check"])[support.FILE].read_bytes()))


def _calibrates(plan: BuildPlan) -> bool:
    """Whether what was typed goes further than the stages before calibration."""
    typed, name = PROJECT.command_line, plan.model.name
    stages = [stage for model, _, stage in (rest.partition(":") for rest in typed.of_group("compile")) if model == name]
    if not stages and any(rest == name for rest in typed.of_group("fit")):
        return False
    runs = any(rest.partition(":")[0] == name for group in ("infer", "accuracy") for rest in typed.of_group(group))
    if any(stage not in ("fetch", "check") for stage in stages):
        return True
    return plan.options.pipe not in FLOAT if runs else not stages


def described(plan: BuildPlan, *, calibrates: bool = True) -> list[Finding]:
    """What is wrong in model.json, and around it. calibrates: whether pictures for calibration will be needed."""
    found = [*_missing_folders(), *_duplicate_keys(plan.model.path), *_name(plan)]
    try:
        descriptor = plan.descriptor
    except AxforgeError as error:
        return [*found, Finding("error", error.what if not error.where else f"{error.where}: {error.what}", error.fix)]
    try:
        plan.with_others()
    except AxforgeError as error:
        found.append(Finding("error", error.what, error.fix))
    found += _labels(descriptor)
    if calibrates:
        found += _calibration(descriptor, plan)
    return found


def readable(plan: BuildPlan) -> bool:
    """Whether model.json can be understood at all."""
    try:
        return bool(plan.descriptor)
    except AxforgeError:
        return False


def against_network(plan: BuildPlan) -> list[Finding]:
    """What of the pipeline does not fit the network, tried on empty arrays of its shapes. Reads what the stage fetch left behind."""
    from axforge.axruntime.pipeline.descriptor import stage_options
    from axforge.axruntime.propose.graph import read_graph

    graph, descriptor = read_graph(plan.outputs(BY_NAME["fetch"])["model.onnx"]), plan.descriptor
    shapes: Shapes = {given.name: given.shape for given in graph.inputs}
    shapes |= {name: tuple(shape) for name, shape in stage_options(descriptor, "check").get("input_shapes", {}).items()}
    if len(graph.inputs) != 1 or not descriptor.preprocessing:
        return []
    name = graph.inputs[0].name
    shape = tuple(1 if axis == 0 and length == -1 else length for axis, length in enumerate(shapes[name]))
    if -1 in shape:
        fix = f'Say it in model.json: "compile": {{"check": {{"input_shapes": {{"{name}": [1, 3, 224, 224]}}}}}}'
        return [Finding("error", f"The network leaves the size of its input {name} open: {list(shape)}.", fix)]
    graph.pin(name, shape)
    return list(_fit(descriptor, graph, name, shape))


def on_cpu(plan: BuildPlan) -> list[OnCpu]:
    """The operators that the AIPU does not have or that are kept in float32, by type. Reads what the stage check left behind."""
    outputs = plan.outputs(BY_NAME["check"])
    nodes = [n for n in json.loads(outputs[support.FILE].read_bytes())["nodes"] if n["place"] not in ("aipu", "folded")]
    sizes = _sizes(outputs["checked.onnx"])
    count = Counter((n["op_type"], n["place"], n["reason"]) for n in nodes)
    values: Counter[tuple[str, str, str]] = Counter()
    for n in nodes:
        values[n["op_type"], n["place"], n["reason"]] += sizes.get(n["node"], 0)
    return [OnCpu(op, count[op, place, why], place, values[op, place, why], why) for op, place, why in count]


def offloaded(plan: BuildPlan) -> list[Finding]:
    """A warning where less than ENOUGH of the multiply-adds run on the AIPU. Reads what the stage check left behind."""
    share = share_of(plan)
    if share.enough:
        return []
    return [Finding("warning", share.warning())]


def _missing_folders() -> Iterator[Finding]:
    for folder in os.environ.get(MODELS, "").split(os.pathsep):
        if folder and not Path(folder).expanduser().is_dir():
            yield Finding("warning", f"{MODELS} names a folder that does not exist: {folder}.", "Correct the path, or make the folder.")


def _duplicate_keys(path: Path) -> list[Finding]:
    found: list[Finding] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        twice = [key for key, times in Counter(key for key, _ in items).items() if times > 1]
        found.extend(
            Finding("error", f"The key {key!r} is in model.json twice, and only the last one counts.", "Remove one.") for key in twice
        )
        return dict(items)

    json.loads(path.read_bytes(), object_pairs_hook=pairs)
    return found


def _name(plan: BuildPlan) -> Iterator[Finding]:
    said, folder = plan.model.raw.get("name"), plan.model.path.parent.name
    if said is not None and said != folder:
        fix = f"The folder's name counts: write {folder!r}, or rename the folder."
        yield Finding("warning", f"model.json says that its name is {said!r}, and its folder is called {folder!r}.", fix)


def _labels(descriptor: "Descriptor") -> Iterator[Finding]:
    names = len(descriptor.label_names)
    for step in descriptor.postprocessing:
        classes = getattr(step, "classes", None)
        if names and isinstance(classes, int) and classes != names:
            fix = "Correct `classes` or `labels`: each class needs a name, in the order of the network's outputs."
            yield Finding("error", f"{step.tag()} reads {classes} classes, and there are {names} labels.", fix)


def _calibration(descriptor: "Descriptor", plan: BuildPlan) -> Iterator[Finding]:
    from axforge.axruntime.media.files import images_in

    wanted = descriptor.calibration
    if wanted is None or not wanted.path:
        return
    path = (plan.settings.data_root or Path()) / wanted.path
    count = plan.options.num_cal_images or wanted.count
    if path.is_dir() and (there := len(images_in(path))) < count:
        yield Finding(
            "warning", f"The model is to be calibrated on {count} pictures, and {path} has {there}.", "Add pictures, or lower `count`."
        )
    elif not path.exists() and not wanted.samples:
        root = "" if plan.settings.data_root else ", or name the folder above it with --data-root or AXFORGE_DATA_ROOT"
        yield Finding("error", f"The calibration data {path} are not there.", f"Put pictures there{root}.")


def _fit(descriptor: "Descriptor", graph: "OnnxGraph", name: str, shape: tuple[int, ...]) -> Iterator[Finding]:
    import numpy as np

    from axforge.axruntime.pipeline.candidates import DecoderContext
    from axforge.axruntime.pipeline.chain import finish, prepare

    picture = np.zeros((*_picture_size(shape), 3), np.uint8)
    try:
        prepared = prepare(descriptor.preprocessing, picture)
    except AxforgeError as error:
        yield Finding("error", f"Pre-processing fails: {error.what}", error.fix)
        return
    if prepared.tensor.shape != shape:
        fix = "Correct `resize`, `convert_color` or `layout`."
        yield Finding(
            "error", f"Pre-processing gives {list(prepared.tensor.shape)}, and the network's input {name} takes {list(shape)}.", fix
        )
        return
    heads = graph.heads()
    if any(-1 in head.shape for head in heads):
        yield Finding("note", "The shapes of the outputs are not known before the network has run, so the decoder was not tried.")
        return
    outputs = {head.name: np.zeros(head.shape, np.float32) for head in heads}
    try:
        with np.errstate(all="ignore"):
            steps = [step for step in descriptor.postprocessing if not step.models_run()]
            finish(steps, outputs, DecoderContext(prepared, descriptor.label_names))
    except AxforgeError as error:
        yield Finding("error", f"{error.where}: {error.what}.", error.fix)
    yield from _classes(descriptor, outputs)


def _picture_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a picture for an input of that shape (NCHW, or NHWC when the last axis is the shortest)."""
    if len(shape) != 4:
        return 64, 64
    return shape[1:3] if shape[3] < shape[1] else shape[2:]


def _classes(descriptor: "Descriptor", outputs: "Mapping[str, Array]") -> Iterator[Finding]:
    names, steps = len(descriptor.label_names), descriptor.postprocessing
    if names and steps and steps[0].tag() == "topk" and len(outputs) == 1:
        scores = next(iter(outputs.values())).size - int(getattr(steps[0], "skip", 0))
        if scores != names:
            yield Finding(
                "error", f"The network tells {scores} classes apart, and there are {names} labels.", "Correct `labels` or `skip`."
            )


def _sizes(path: Path) -> dict[str, int]:
    """How many numbers each node of the ONNX at `path` computes, by its name, where shapes are known."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    graph = model.graph
    values = {
        value.name: prod(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output, *graph.input)
    }
    return {node.name: sum(values.get(name, 0) for name in node.output) for node in graph.node}
