"""Trying a proposal: which values and which order of colours make the network see what is in photos whose contents are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import msgspec
import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.onnx import OnnxEngine
from axforge.axruntime.lazy import Array
from axforge.axruntime.media.images import read_image
from axforge.axruntime.media.samples import sample_names, sample_path
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.pipeline import fit_input, only_input
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.step import BoxDecoder, PreStep
from axforge.axruntime.propose.feeding import RANGES, name_of_range
from axforge.axruntime.propose.proposal import Choice, Proposal
from axforge.axruntime.results.classification import Classification

#: What the photos that packages ship show, as COCO and ImageNet call it.
_CONTENTS: Mapping[str, frozenset[str]] = {
    "astronaut": frozenset({"person"}),
    "chelsea": frozenset({"cat", "tabby", "tiger cat", "Egyptian cat"}),
    "coffee": frozenset({"cup", "espresso"}),
    "grace_hopper": frozenset({"person", "military uniform"}),
    "motorcycle": frozenset({"motorcycle", "moped", "motor scooter", "disc brake"}),
    "rocket": frozenset({"missile", "projectile", "space shuttle"}),
}
#: With fewer photos that show something the network knows, the answer is left to chance.
_FEWEST = 3
#: Mean score of the right classes above which a network has seen what is there, and below which it has not.
_SEEN, _BLIND = 0.4, 0.2
#: A choice that is better than what was proposed by no more than this share is no reason to change it.
_TIE = 0.02


@dataclass(frozen=True)
class Attempt:
    """A way to feed the network, and the mean score (0..1) that the right classes then got."""

    order: str
    values: Normalize | None
    score: float


def tried(proposal: Proposal) -> Proposal:
    """The proposal after its network has run, in onnxruntime, on photos that packages ship, fed in several ways.

    The best way replaces the proposed one, and what that confirms is surer. Where the classes are not known, or the photos show none of
    them, the proposal comes back with a sentence that says so. Raises AxforgeError when the network cannot run.
    """
    photos = _photos(_label_names(proposal))
    steps = proposal.descriptor.postprocessing
    if len(photos) < _FEWEST or not steps or not isinstance(steps[0], TopK | BoxDecoder):
        why = "Only networks whose classes are in the photos that packages ship can be tried."
        return replace(proposal, choices=(*proposal.choices, Choice("trial", "not possible", "certain", why)))
    attempts = list(_attempts(proposal, photos))
    return _judged(proposal, attempts, len(photos))


def _label_names(proposal: Proposal) -> tuple[str, ...]:
    labels = proposal.descriptor.labels
    return labels if isinstance(labels, tuple) else tuple(proposal.files.get(labels, "").splitlines())


def _photos(labels: Sequence[str]) -> dict[str, list[int]]:
    """The photos that show classes of `labels`, each with the numbers of these classes."""
    found = {name: [i for i, label in enumerate(labels) if label in _CONTENTS.get(name, ())] for name in sample_names()}
    return {name: classes for name, classes in found.items() if classes}


def _attempts(proposal: Proposal, photos: Mapping[str, list[int]]) -> Iterator[Attempt]:
    """Every order of colours with every range of values, the proposed one first."""
    try:
        engine = OnnxEngine(proposal.source)
    except ImportError as e:
        raise AxforgeError(f"onnxruntime cannot be imported: {e}", fix="Install it, or propose without trying.") from e
    images = {name: read_image(sample_path(name)) for name in photos}
    steps = proposal.descriptor.preprocessing
    order, values = _order(steps), next((s for s in steps if isinstance(s, Normalize)), None)
    orders = (order,) if order == "GRAY" else tuple(dict.fromkeys((order, "RGB", "BGR")))
    ranges = (None,) if values is None else tuple(dict.fromkeys((values, *RANGES)))
    try:
        for chosen in orders:
            for normalize in ranges:
                scores = [_score(engine, proposal, _fed(steps, chosen, normalize), images[name], photos[name]) for name in photos]
                yield Attempt(chosen, normalize, fmean(scores))
    finally:
        engine.close()


def _order(steps: Sequence[PreStep]) -> str:
    return next((step.to for step in steps if isinstance(step, ConvertColor)), "RGB")


def _fed(steps: Sequence[PreStep], order: str, values: Normalize | None) -> tuple[PreStep, ...]:
    """`steps` with another order of colours and other values."""
    rest = [step for step in steps if not isinstance(step, ConvertColor | Normalize)]
    at = next((i for i, step in enumerate(rest) if step.tag() == "layout"), len(rest))
    colours = () if order == "RGB" else (msgspec.convert({"type": "convert_color", "to": order}, ConvertColor),)
    return (*rest[:at], *colours, *(() if values is None else (values,)), *rest[at:])


def _score(engine: OnnxEngine, proposal: Proposal, steps: Sequence[PreStep], image: Array, classes: Sequence[int]) -> float:
    """The score (0..1) that the right classes get for `image`: the sum of their probabilities, or that of the best box."""
    descriptor = proposal.descriptor
    prepared = prepare(steps, image)
    name = only_input(engine.inputs, descriptor.name)
    outputs = engine.run({name: fit_input(prepared.tensor, name, engine.inputs)})
    outputs = {key: np.nan_to_num(value.astype(np.float32)) for key, value in outputs.items()}
    decoder, context = descriptor.postprocessing[0], DecoderContext(prepared)
    if isinstance(decoder, BoxDecoder):
        boxes = msgspec.structs.replace(decoder, confidence_threshold=0.0, multi_label=True)(outputs, context)
        assert isinstance(boxes, Candidates)
        return float(np.clip(boxes.scores[np.isin(boxes.class_ids, classes)], 0, 1).max(initial=0.0))
    assert isinstance(decoder, TopK)
    found = msgspec.structs.replace(decoder, k=1 << 20)(outputs, context)
    assert isinstance(found, Classification)
    return float(np.clip(sum(score for number, score in zip(found.class_ids, found.scores, strict=True) if number in classes), 0, 1))


def _judged(proposal: Proposal, attempts: Sequence[Attempt], photos: int) -> Proposal:
    """The proposal with the best of `attempts`, of which the first is what was proposed."""
    best = max(attempts, key=lambda attempt: attempt.score)
    if attempts[0].score >= best.score * (1 - _TIE):
        best = attempts[0]
    what = f"On {photos} photos whose contents are known the right classes get {best.score:.2f} of 1 on average."
    if best.score < _BLIND:
        check = "The network does not see what is there, however it is fed: decoder, labels or weights are not what they seem."
        return replace(proposal, choices=(*proposal.choices, Choice("trial", f"{best.score:.2f}", "likely", what, check)))
    choices = {d.what: d for d in proposal.choices}
    changes = [_compared("colours", best.order, {a.order: a.score for a in attempts if a.values == best.values})]
    if best.values is not None:
        scores = {name_of_range(a.values): a.score for a in attempts if a.order == best.order and a.values is not None}
        changes.append(_compared("values", name_of_range(best.values), scores))
    if best.score >= _SEEN:
        changes += [_confirmed(choices[what]) for what in ("decoder", "task", "classes", "labels")]
    choices.update({change.what: change for change in changes if change is not None})
    found = (*choices.values(), Choice("trial", f"{best.score:.2f}", "certain", what))
    steps = _fed(proposal.descriptor.preprocessing, best.order, best.values)
    return replace(proposal, descriptor=msgspec.structs.replace(proposal.descriptor, preprocessing=steps), choices=found)


def _confirmed(choice: Choice) -> Choice:
    """A choice without which the right classes could not have been found."""
    return choice if choice.sure == "certain" else replace(choice, sure="certain", why=f"{choice.why} A trial confirms it.", check="")


def _compared(what: str, chosen: str, scores: Mapping[str, float]) -> Choice | None:
    """The choice for `chosen`, with the score of the next best; None when there was nothing to compare it with."""
    others = {name: score for name, score in scores.items() if name != chosen}
    if not others:
        return None
    second = max(others, key=lambda name: others[name])
    clear = others[second] <= scores[chosen] / 2
    why = f"Tried on photos: the right classes get {scores[chosen]:.2f}, with {second} {others[second]:.2f}."
    check = "" if clear else "The difference is small: the figures of the training are better evidence."
    return Choice(what, chosen, "certain" if clear else "likely", why, check)
