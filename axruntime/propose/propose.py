"""The proposal itself: evidence from the graph, put together into a model.json."""

import re
from collections.abc import Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.chain import kind_of_result
from axforge.axruntime.pipeline.descriptor import Descriptor, Source
from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.step import Decoder, Fit, PreStep
from axforge.axruntime.pipeline.steps import POST_STEPS
from axforge.axruntime.propose.feeding import Evidence, choose_feeding
from axforge.axruntime.propose.graph import Input, OnnxGraph, read_graph
from axforge.axruntime.propose.labels import choose_labels, known_counts, read_label_files
from axforge.axruntime.propose.metadata import MakerNotes, notes
from axforge.axruntime.propose.picture import PictureInput, choose_input
from axforge.axruntime.propose.proposal import GRADES, Choice, Proposal
from axforge.axruntime.propose.unread import decoders, unread

#: More names than this are a file beside model.json, not a list in it.
LISTED = 20
LABEL_FILE = "labels.txt"


def propose(path: Path, label_folders: Sequence[Path] = (), data_root: Path | None = None, name: str = "") -> Proposal:
    """What model.json would say of the ONNX at `path`. Its weights need not be there.

    label_folders: where label files are that may fit. data_root: `source` is relative to it if the file is below it.
    name: of the model; made of the file's name if ''. Raises AxforgeError for a file that is not an ONNX model with one input.
    """
    graph = read_graph(path)
    noted, given = notes(graph.metadata), only_input(graph)
    chosen = choose_input(given, noted, [head.shape for head in graph.heads()])
    graph.pin(chosen.name, chosen.shape)
    files = read_label_files(label_folders)
    own = noted.class_names
    network = Network(
        chosen.height, chosen.width, chosen.channels, graph.heads(), len(own) if own else None, known_counts(files), noted.task
    )
    fits = fitting(network)
    fit = fits[0] if fits else unread(network)
    steps, choices = _feeding(graph, given, chosen, noted, fit)
    label_name, names, labels = choose_labels(fit, own, files, (chosen.height, chosen.width, chosen.channels))
    found = [*chosen.choices, *_outputs(network, fits, fit), *([labels] if labels else []), *choices, *_calibration(chosen)]
    model = name or model_name(path)
    descriptor = Descriptor(
        name=model,
        model=f"{model}/1/model.axmodel",
        description=noted.description,
        task=kind_of_result(fits[0].steps).task or None if fits else None,
        source=Source(file=below(path, data_root)),
        preprocessing=steps,
        postprocessing=fit.steps if fit else (),
        labels=names if len(names) <= LISTED else label_name,
        compile={"check": {"input_shapes": {chosen.name: list(chosen.shape)}}} if chosen.pinned else {},
        license=noted.license,
    )
    beside = {label_name: "".join(f"{line}\n" for line in names)} if len(names) > LISTED else {}
    return Proposal(descriptor, tuple(found), path, beside)


def fitting(network: Network) -> list[Fit]:
    """What the decoders say that they can read of `network`, surest first."""
    fits = [step.fits(network) for step in POST_STEPS.values() if issubclass(step, Decoder)]
    return sorted((fit for fit in fits if fit is not None), key=lambda fit: GRADES.index(fit.sure))


def model_name(path: Path) -> str:
    """A name for the model in the file `path`, as model.json allows them."""
    stem = path.name.removesuffix(".onnx").removesuffix(".shape")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "model"


def only_input(graph: OnnxGraph) -> Input:
    """The input that a pipeline feeds. Raises AxforgeError where there is not exactly one."""
    if len(graph.inputs) != 1:
        names = ", ".join(i.name for i in graph.inputs[:5]) or "none"
        fix = "Export the model with one input, or write model.json for the engine alone and feed it from Python."
        raise AxforgeError(f"A pipeline feeds one input, and the network has {len(graph.inputs)}: {names}.", where=str(graph.path), fix=fix)
    return graph.inputs[0]


def _feeding(
    graph: OnnxGraph, given: Input, chosen: PictureInput, noted: MakerNotes, fit: Fit | None
) -> tuple[tuple[PreStep, ...], list[Choice]]:
    """The steps of pre-processing and the choices behind them; none for an input that is not a picture."""
    if not chosen.picture:
        return (), []
    scaling = graph.scaling(chosen.name, chosen.channels)
    maker = noted.maker if fit is not None and fit.feeding else ""
    size = (chosen.height, chosen.width, chosen.channels)
    made = choose_feeding(Evidence(*size, chosen.nhwc, given.dtype, fit, scaling, graph.producer, maker))
    return tuple(step for step, _ in made if step is not None), [choice for _, choice in made]


def _outputs(network: Network, fits: Sequence[Fit], fit: Fit | None) -> list[Choice]:
    shapes = ", ".join(f"{head.name} {list(head.shape)}" for head in network.heads[:6])
    if not fits or fit is None:
        why = (
            f"The outputs ({shapes}) are {fit.why}; no decoder reads them as they are."
            if fit
            else f"The outputs are not recognised: {shapes}."
        )
        check = f"Without a decoder the outputs themselves are the result. The decoders take:\n{decoders()}"
        return [Choice("decoder", "none: raw outputs", fit.sure if fit else "guess", why, check)]
    task = kind_of_result(fit.steps).task
    others = [other.steps[0].tag() for other in fits[1:]]
    check = " ".join(filter(None, (fit.check, f"{', '.join(others)} would fit too." if others else "")))
    found = [Choice("decoder", fit.steps[0].tag(), fit.sure, f"{fit.why[:1].upper()}{fit.why[1:]}.", check)]
    found.append(Choice("task", task, fit.sure, "What the decoder gives."))
    if fit.classes:
        found.append(Choice("classes", str(fit.classes), fit.sure, "From the shape of the output."))
    return found


def _calibration(chosen: PictureInput) -> list[Choice]:
    if not chosen.picture:
        check = 'Add "calibration": {"path": "samples.npz"}, with the feeds as `x`.'
        return [Choice("calibration", "none", "guess", "The input is not a picture, so nothing can stand in for its samples.", check)]
    check = 'Add "calibration": {"path": FOLDER} with about 100 pictures like those that the network will see.'
    return [Choice("calibration", "photos that packages ship", "guess", "Nothing else is known; accuracy may suffer.", check)]


def below(path: Path, data_root: Path | None) -> str:
    """`path` relative to the data root if it is below it, else absolute."""
    full = path.resolve()
    if data_root is not None and full.is_relative_to(data_root.resolve()):
        return full.relative_to(data_root.resolve()).as_posix()
    return str(full)
