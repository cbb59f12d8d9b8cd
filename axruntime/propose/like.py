"""A proposal for an ONNX that is fed and read as a known model is: that model's steps, with what the graph itself says."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.descriptor import Descriptor, Source
from axforge.axruntime.pipeline.heads import Head, Network
from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import Decoder, Fit, OutputStep, PostStep, PreStep
from axforge.axruntime.propose.graph import Input, read_graph
from axforge.axruntime.propose.labels import known_counts, read_label_files
from axforge.axruntime.propose.metadata import MakerNotes, notes
from axforge.axruntime.propose.picture import PictureInput, choose_input
from axforge.axruntime.propose.proposal import Choice, Proposal
from axforge.axruntime.propose.propose import LABEL_FILE, LISTED, below, fitting, model_name, only_input


def propose_like(
    path: Path, like: Descriptor, label_folders: Sequence[Path] = (), data_root: Path | None = None, name: str = ""
) -> Proposal:
    """What model.json would say of the ONNX at `path`, if it is a model such as `like`.

    Sizes, classes and names of outputs are those of the graph; everything else is taken over. Raises AxforgeError for a file
    that is not an ONNX model with one input, and for outputs that another decoder reads and that of `like` does not.
    """
    graph = read_graph(path)
    noted, given = notes(graph.metadata), only_input(graph)
    chosen = _input(given, noted, graph.heads(), like)
    graph.pin(chosen.name, chosen.shape)
    counts, own = known_counts(read_label_files(label_folders)), noted.class_names
    network = Network(chosen.height, chosen.width, chosen.channels, graph.heads(), len(own) if own else None, counts, noted.task)
    feeding, fed = _feeding(like, chosen)
    reading, read, classes = _reading(like, network, path)
    names, labels = _labels(like, own, classes)
    choices = [*chosen.choices, *fed, *read, labels, *_calibration(like)]
    model = name or model_name(path)
    descriptor = msgspec.structs.replace(
        like,
        name=model,
        model=f"{model}/1/model.axmodel",
        description=noted.description or f"As {like.name}",
        source=Source(file=below(path, data_root)),
        preprocessing=feeding,
        postprocessing=reading,
        labels=names if len(names) <= LISTED else LABEL_FILE,
        calibration=msgspec.structs.replace(like.calibration, samples=True) if like.calibration else None,
        dataset=None,
        compile={"check": {"input_shapes": {chosen.name: list(chosen.shape)}}} if chosen.pinned else {},
        license=noted.license,
        reference=(),
        schema="",
        published={},
    )
    beside = {LABEL_FILE: "".join(f"{line}\n" for line in names)} if len(names) > LISTED else {}
    return Proposal(descriptor, tuple(choices), path, beside)


def _input(given: Input, noted: MakerNotes, heads: Sequence[Head], like: Descriptor) -> PictureInput:
    """The input; a size that the graph and its maker's notes leave free is that of the known model."""
    chosen = choose_input(given, noted, [head.shape for head in heads])
    size = next(
        (step for step in reversed(like.preprocessing) if isinstance(step, CenterCrop | Resize) and step.width and step.height), None
    )
    if not (chosen.picture and chosen.pinned) or noted.size is not None or size is None or given.shape[2 - chosen.nhwc] > 0:
        return chosen
    height, width = size.height or 0, size.width or 0
    shape = (chosen.shape[0], height, width, chosen.channels) if chosen.nhwc else (chosen.shape[0], chosen.channels, height, width)
    choice = Choice("input", f"{chosen.name} {list(shape)}", "likely", f"The graph leaves the size free; {like.name} takes this one.")
    return replace(chosen, shape=shape, height=height, width=width, choices=(choice, *chosen.choices[1:]))


def _feeding(like: Descriptor, chosen: PictureInput) -> tuple[tuple[PreStep, ...], list[Choice]]:
    """The steps of `like` for a picture of the graph's size."""
    if not chosen.picture or not like.preprocessing:
        return like.preprocessing, []
    crop = next((step for step in like.preprocessing if isinstance(step, CenterCrop)), None)
    steps = tuple(_sized(step, chosen, crop) for step in like.preprocessing)
    shown = ", ".join(step.tag() for step in steps)
    check = "" if steps == like.preprocessing else "The resize of the training: sizes are the graph's."
    return steps, [Choice("pre-processing", shown, "likely", f"As {like.name} is fed.", check)]


def _sized(step: PreStep, chosen: PictureInput, crop: CenterCrop | None) -> PreStep:
    """A step that gives the graph's picture; what is resized before a crop keeps its proportion to it."""
    if isinstance(step, CenterCrop) or (isinstance(step, Resize) and step.width is not None and crop is None):
        return msgspec.structs.replace(step, width=chosen.width, height=chosen.height)
    if isinstance(step, Resize) and crop is not None and min(crop.width, crop.height) != min(chosen.width, chosen.height):
        share = min(chosen.width, chosen.height) / min(crop.width, crop.height)
        sides = {name: round(side * share) for name in ("width", "height", "size") if (side := getattr(step, name)) is not None}
        return msgspec.structs.replace(step, **sides)
    return step


def _reading(like: Descriptor, network: Network, path: Path) -> tuple[tuple[PostStep, ...], list[Choice], int]:
    """The steps of `like` for the graph's outputs, the choices, and how many classes there are (0: not known)."""
    before = tuple(itertools.takewhile(lambda step: isinstance(step, OutputStep), like.postprocessing))
    first = next(iter(like.postprocessing[len(before) :]), None)
    if not isinstance(first, Decoder):
        return like.postprocessing, [Choice("decoder", "none: raw outputs", "likely", f"{like.name} has none.")], 0
    fits = fitting(network)
    fit = next((fit for fit in fits if fit.steps and fit.steps[0].tag() == first.tag()), None)
    if fit is not None:
        step = _of_this_graph(first, fit)
        choice = Choice("decoder", step.tag(), fit.sure, f"That of {like.name}, and {fit.why}.", fit.check)
        classes = [Choice("classes", str(fit.classes), fit.sure, "From the shape of the output.")] if fit.classes else []
        return (*before, step, *like.postprocessing[len(before) + 1 :]), [choice, *classes], fit.classes
    shapes = ", ".join(f"{head.name} {list(head.shape)}" for head in network.heads[:6])
    if fits:
        others = " or ".join(dict.fromkeys(fit.steps[0].tag() for fit in fits))
        what = f"{first.tag()}, which {like.name} has, does not read these outputs ({shapes}); {others} does."
        raise AxforgeError(what, where=str(path), fix="Omit --like, or name a model with that decoder.")
    why = f"That of {like.name}; nothing speaks for or against it in {shapes}."
    return like.postprocessing, [Choice("decoder", first.tag(), "guess", why, "Whether the decoder reads these outputs.")], 0


def _of_this_graph(step: Decoder, fit: Fit) -> PostStep:
    """The decoder of the known model with what depends on the graph: everything that the fit sets, except thresholds."""
    found = fit.steps[0]
    own = {name: getattr(found, name) for name in step.__struct_fields__ if name not in ("confidence_threshold", "multi_label", "k")}
    return msgspec.structs.replace(step, **own)


def _labels(like: Descriptor, own: Sequence[str], classes: int) -> tuple[tuple[str, ...], Choice]:
    if own and classes in (0, len(own)):
        return tuple(own), Choice("labels", f"{len(own)} names", "certain", "The file names its classes.")
    if like.label_names and classes in (0, len(like.label_names)):
        check = "Whether the classes are these, in this order."
        return like.label_names, Choice("labels", f"{len(like.label_names)} names", "likely", f"As many as {like.name} has.", check)
    fix = "`labels` takes a list, or a file with one name on each line."
    return (), Choice("labels", "none: numbers are shown", "guess", f"{classes or 'Unknown'} classes, and nothing says which.", fix)


def _calibration(like: Descriptor) -> list[Choice]:
    where = like.calibration.path if like.calibration else "photos that packages ship"
    check = 'Name pictures like those that the network will see: "calibration": {"path": FOLDER}.'
    return [Choice("calibration", where, "guess", f"As {like.name}; without that folder, photos that packages ship.", check)]
