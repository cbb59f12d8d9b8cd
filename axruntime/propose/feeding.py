"""Pre-processing: what the graph itself says of it, and how networks of its kind are usually fed."""

from collections.abc import Iterator
from dataclasses import dataclass

from axforge.axruntime.pipeline.postprocessing.super_resolution import SuperResolution
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.layout import InputLayout
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import Certainty, Fit, PreStep
from axforge.axruntime.propose.graph import Scaling
from axforge.axruntime.propose.proposal import Choice

#: Mean and standard deviation of ImageNet's pixels in 0..1, which torchvision's and timm's weights were trained with.
_IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
#: -1..1, as TensorFlow's own networks take it.
_SYMMETRIC = Normalize(mean=127.5, std=127.5, divisor=1.0)
_UNIT = Normalize()
_BYTES = Normalize(divisor=1.0)
#: The usual ranges of values.
RANGES = (_UNIT, _IMAGENET, _SYMMETRIC, _BYTES)
#: The middle of a picture that a classifier sees is this share of its shorter side.
_CROP = 0.875
#: Pictures smaller than this are shrunk whole, as data sets of small pictures are.
_SMALL = 128
#: A graph that multiplies its input by less than this takes 0..255, else 0..1.
_BYTE_SCALE = 0.2


@dataclass(frozen=True)
class Evidence:
    """What speaks for a pre-processing. by_maker: the exporter feeds all its networks alike, and is known."""

    height: int
    width: int
    channels: int
    nhwc: bool
    dtype: str
    fit: Fit | None
    scaling: Scaling | None
    producer: str
    by_maker: str = ""

    @property
    def usual(self) -> str:
        """What networks of this kind are called in a sentence."""
        return f"networks that `{self.fit.steps[0].tag()}` reads" if self.fit and self.fit.steps else "networks of this kind"

    def sure(self, otherwise: Certainty) -> Certainty:
        """`certain` if the maker is known, else what is given."""
        return "certain" if self.by_maker else otherwise


def choose_feeding(evidence: Evidence) -> list[tuple[PreStep | None, Choice]]:
    """The steps in order, each with its choice; None is the choice not to have a step."""
    return [*_sizes(evidence), _colours(evidence), _values(evidence), *_order(evidence)]


def _sizes(e: Evidence) -> Iterator[tuple[PreStep, Choice]]:
    size = f"{e.width} x {e.height}"
    usual = next((step for step in (e.fit.feeding if e.fit else ()) if isinstance(step, Resize)), None)
    if usual is not None:
        how = (
            f"{size}, letterbox" + (" at the top left" if usual.position == "top-left" else "") if usual.letterbox else f"{size}, stretched"
        )
        why = f"{e.by_maker} feeds its networks so." if e.by_maker else f"Usual for {e.usual}."
        yield usual, Choice("resize", how, e.sure("likely"), why, "" if e.by_maker else "Whether proportions are kept, as in training.")
        return
    decoder = e.fit.steps[0] if e.fit and e.fit.steps else None
    crop = CenterCrop(width=e.width, height=e.height)
    if isinstance(decoder, SuperResolution):
        why = "A larger picture is made of any picture; nothing is known of how it was trained."
        yield (
            Resize(size=min(e.height, e.width), antialias=True),
            Choice("resize", f"shorter side to {min(e.height, e.width)}", "guess", why),
        )
        yield crop, Choice("crop", size, "likely", "What the network's input takes.")
    elif isinstance(decoder, TopK) and e.height == e.width >= _SMALL:
        side = round(e.height / _CROP)
        why = f"Classifiers are usually measured on the middle {_CROP:.1%} of a picture."
        check = "The resize and the crop of the training; another share costs some accuracy."
        yield Resize(size=side, antialias=True), Choice("resize", f"shorter side to {side}", "likely", why, check)
        yield crop, Choice("crop", size, "certain", "What the network's input takes.")
    else:
        why = "The size is that of the network's input; nothing says whether proportions are kept."
        step = Resize(width=e.width, height=e.height, antialias=max(e.height, e.width) < _SMALL)
        yield (
            step,
            Choice("resize", f"{size}, stretched", "guess", why, "Whether pictures were stretched, cropped or padded in training."),
        )


def _colours(e: Evidence) -> tuple[PreStep | None, Choice]:
    if e.channels == 1:
        return ConvertColor(to="GRAY"), Choice("colours", "GRAY", "certain", "The input has one channel.")
    usual = next((step for step in (e.fit.feeding if e.fit else ()) if isinstance(step, ConvertColor)), None)
    check = "RGB or BGR: a wrong order costs accuracy and gives no error."
    if usual is not None:
        return usual, Choice("colours", usual.to, "likely", f"Usual for {e.usual}.", check)
    if e.by_maker:
        return None, Choice("colours", "RGB", "certain", f"{e.by_maker} feeds its networks so.")
    known = e.fit is not None and bool(e.fit.feeding)
    why = f"Usual for {e.usual}." if known else "Most networks take RGB; those trained with OpenCV or Caffe take BGR."
    return None, Choice("colours", "RGB", "likely" if known else "guess", why, check)


def _values(e: Evidence) -> tuple[PreStep | None, Choice]:
    if e.dtype == "uint8":
        return None, Choice("values", "0..255", "certain", "The input is uint8.")
    if e.scaling is not None:
        step = _BYTES if max(map(abs, e.scaling.scale)) < _BYTE_SCALE else _UNIT
        what = f"The graph normalises its input itself ({', '.join(e.scaling.operators)}) and takes {name_of_range(step)}."
        return step, Choice("values", name_of_range(step), "likely", what, "Whether the scale in the graph is all there is.")
    usual = next((step for step in (e.fit.feeding if e.fit else ()) if isinstance(step, Normalize)), None)
    check = "Mean and scale of the training; wrong ones cost accuracy and give no error."
    if usual is not None:
        why = f"{e.by_maker} feeds its networks so." if e.by_maker else f"Usual for {e.usual}."
        return usual, Choice("values", name_of_range(usual), e.sure("likely"), why, "" if e.by_maker else check)
    step, sure, why = _by_convention(e)
    return step, Choice("values", name_of_range(step), sure, why, check)


def _by_convention(e: Evidence) -> tuple[Normalize, Certainty, str]:
    decoder = e.fit.steps[0] if e.fit and e.fit.steps else None
    if isinstance(decoder, SuperResolution) or e.channels == 1:
        return _UNIT, "likely", "Usual for pictures of one channel."
    if isinstance(decoder, TopK) and decoder.skip == 1:
        return _SYMMETRIC, "likely", "A background before the classes is a habit of TensorFlow, whose networks take -1..1."
    if e.producer.startswith("pytorch"):
        imagenet = isinstance(decoder, TopK) and e.fit is not None and e.fit.classes == 1000
        return _IMAGENET, "likely" if imagenet else "guess", "PyTorch's networks mostly take the mean and deviation of ImageNet."
    if any(word in e.producer.lower() for word in ("tf", "keras", "tensorflow")):
        return _SYMMETRIC, "guess", "TensorFlow's networks mostly take -1..1, some 0..1."
    if "caffe" in e.producer.lower():
        return _BYTES, "guess", "Caffe's networks mostly take 0..255, less a mean."
    return _UNIT, "guess", "Nothing in the file speaks of it."


def _order(e: Evidence) -> Iterator[tuple[PreStep | None, Choice]]:
    if e.nhwc:
        yield InputLayout(to="NHWC"), Choice("layout", "NHWC", "certain", f"The last axis of the input has length {e.channels}.")


def name_of_range(step: Normalize) -> str:
    """What the values after `step` are called."""
    if step == _BYTES:
        return "0..255"
    if step == _UNIT:
        return "0..1"
    if step == _SYMMETRIC:
        return "-1..1"
    return "mean and deviation of ImageNet" if step == _IMAGENET else f"(x / {step.divisor:g} - {step.mean}) / {step.std}"
