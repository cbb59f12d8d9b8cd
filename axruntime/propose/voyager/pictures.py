"""The operators before the network as steps of pre-processing."""

from dataclasses import dataclass, field

import msgspec

from axforge.axruntime.pipeline.preprocessing.centercrop import CenterCrop
from axforge.axruntime.pipeline.preprocessing.convert_color import ConvertColor
from axforge.axruntime.pipeline.preprocessing.layout import InputLayout
from axforge.axruntime.pipeline.preprocessing.normalize import Normalize
from axforge.axruntime.pipeline.preprocessing.resize import Resize
from axforge.axruntime.pipeline.step import PreStep
from axforge.axruntime.propose.voyager.values import Notes, YamlOperator

#: Names of interpolations, and whether they average over the source pixels.
_INTERPOLATIONS = {
    "nearest": ("nearest", False),
    "bilinear": ("bilinear", False),
    "pillow_bilinear": ("bilinear", True),
    "bicubic": ("bicubic", False),
}
_COLOURS = {"RGB": "", "BGR": "BGR", "GRAY": "GRAY", "GREY": "GRAY"}


@dataclass
class Feeding:
    """The steps so far. Values are kept as (x / divisor - mean) / std, which any row of scalings is.

    colours: of the network's input, '' for RGB.
    """

    notes: Notes
    colours: str = ""
    nhwc: bool = False
    steps: list[PreStep] = field(default_factory=list)
    divisor: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def done(self) -> tuple[PreStep, ...]:
        """All steps, in order. Raises AxforgeError for scalings that do not fit together."""
        colours = [_step(self.notes, ConvertColor, to=self.colours)] if self.colours else []
        values = _step(self.notes, Normalize, mean=_plain(self.mean), std=_plain(self.std), divisor=self.divisor)
        order = [_step(self.notes, InputLayout, to="NHWC")] if self.nhwc else []
        return (*self.steps, *colours, values, *order)

    def add(self, operator: YamlOperator) -> None:
        """Take one operator. Raises AxforgeError for parameters that mean nothing."""
        take = {
            "resize": self._resize,
            "letterbox": self._letterbox,
            "centercrop": self._crop,
            "torchtotensor": self._tensor,
            "normalize": self._normalize,
            "linearscaling": self._linear,
            "convertcolor": self._convert,
        }.get(operator.key)
        if take is None:
            self.notes.lost(operator.name, "There is no such step of pre-processing.", "The network is fed without it.")
            return
        take(operator)
        operator.rest()

    def colour(self, said: object, where: str) -> None:
        """Note the order of colours that the network takes."""
        word = str(said or "RGB").upper()
        if word not in _COLOURS:
            self.notes.lost(where, f"Colours {word[:20]!r} are not known; RGB is fed.", "The order of colours.")
            return
        self.colours = _COLOURS[word]
        self.notes.mapped("colours", self.colours or "RGB")

    def _resize(self, operator: YamlOperator) -> None:
        width, height, size = (operator.whole(name) for name in ("width", "height", "size"))
        word = str(operator.take("interpolation") or "bilinear").lower()
        how, antialias = _INTERPOLATIONS.get(word, ("bilinear", False))
        if word not in _INTERPOLATIONS:
            self.notes.lost("resize.interpolation", f"There is no {word[:30]!r}; bilinear is taken.", "The interpolation.")
        if operator.take("half_pixel_centers") is False:
            self.notes.lost("resize.half_pixel_centers", "Pixels are always squares around their centres here.")
        shape = {"size": size} if size else {"width": width, "height": height}
        self.steps.append(_step(self.notes, Resize, **shape, interpolation=how, antialias=antialias))
        self.notes.mapped("resize", f"shorter side to {size}" if size else f"{width} x {height}, stretched")

    def _letterbox(self, operator: YamlOperator) -> None:
        width, height, pad = operator.whole("width"), operator.whole("height"), operator.number("pad_val", default=114)
        if not operator.flag("scaleup", default=True):
            self.notes.lost("letterbox.scaleup", "Small pictures are enlarged here.")
        if operator.take("half_pixel_centers"):
            pass  # as here
        self.steps.append(_step(self.notes, Resize, width=width, height=height, letterbox=True, pad_value=int(pad or 0)))
        self.notes.mapped("resize", f"{width} x {height}, letterbox")

    def _crop(self, operator: YamlOperator) -> None:
        width, height = operator.whole("width"), operator.whole("height")
        self.steps.append(_step(self.notes, CenterCrop, width=width, height=height))
        self.notes.mapped("crop", f"{width} x {height}")

    def _tensor(self, operator: YamlOperator) -> None:
        for name in ("input_layout", "output_layout", "datatype"):
            operator.take(name)  # an engine takes arrays of its own layout and type
        if operator.flag("scale", default=True):
            self.divisor *= 255.0

    def _normalize(self, operator: YamlOperator) -> None:
        mean, std = operator.numbers("mean") or (0.0,), operator.numbers("std") or (1.0,)
        for name in ("tensor_layout", "format"):
            operator.take(name)
        self._then(mean, std, operator)

    def _linear(self, operator: YamlOperator) -> None:
        """x / mean + shift, as the SDK computes it, or x * scale + shift."""
        factors, shifts = operator.numbers("mean"), operator.numbers("shift") or (0.0,)
        scales = operator.numbers("scale")
        if scales and 0 in scales:
            raise self.notes.error(f"{operator.name}: a scale of 0 leaves nothing of the picture.")
        std = tuple(1 / scale for scale in scales) if scales else factors or (1.0,)
        self._then(tuple(-a * b for a, b in _together(shifts, std, self.notes)), std, operator)

    def _then(self, mean: tuple[float, ...], std: tuple[float, ...], operator: YamlOperator) -> None:
        """After what is there: (y - mean) / std."""
        if 0 in std:
            raise self.notes.error(f"{operator.name} divides by 0.")
        moved = tuple(m * s for m, s in _together(mean, self.std, self.notes))
        self.mean = tuple(a + b for a, b in _together(self.mean, moved, self.notes))
        self.std = tuple(a * b for a, b in _together(self.std, std, self.notes))
        self.notes.mapped("values", f"(x / {self.divisor:g} - {_plain(self.mean)}) / {_plain(self.std)}")

    def _convert(self, operator: YamlOperator) -> None:
        said = str(operator.take("format", "conversion") or "").upper()
        self.colour(said.rpartition("2")[2], operator.name)


def _step(notes: Notes, kind: type[PreStep], **parameters: object) -> PreStep:
    """A step with these parameters, checked as those of a model.json. Raises AxforgeError."""
    given = {key: value for key, value in parameters.items() if value is not None}
    try:
        return msgspec.convert({"type": kind.tag(), **given}, kind)
    except msgspec.ValidationError as error:
        raise notes.error(f"{kind.tag()}: {error}") from None


def _together(first: tuple[float, ...], second: tuple[float, ...], notes: Notes) -> list[tuple[float, float]]:
    """Pairs of numbers for each channel, where one number counts for all. Raises AxforgeError."""
    count = max(len(first), len(second))
    if {len(first), len(second)} - {1, count} or count > 4:
        raise notes.error(f"Scalings of {len(first)} and {len(second)} channels do not fit together.")
    return list(zip(first * (count // len(first)), second * (count // len(second)), strict=True))


def _plain(numbers: tuple[float, ...]) -> float | tuple[float, ...]:
    """One number where all are equal."""
    rounded = tuple(round(number, 9) for number in numbers)
    return rounded[0] if len(set(rounded)) == 1 else rounded
