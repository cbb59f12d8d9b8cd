"""The input: whether it is a picture, the order of its axes, and the size that is proposed where the graph leaves it free."""

from collections.abc import Sequence
from dataclasses import dataclass

from axforge.axruntime.pipeline.heads import Network
from axforge.axruntime.pipeline.step import Certainty
from axforge.axruntime.propose.graph import Input
from axforge.axruntime.propose.metadata import MakerNotes
from axforge.axruntime.propose.proposal import Choice

#: Sizes tried for a network whose picture is free and whose number of boxes is not.
_SIDES = (640, 416, 320, 512, 1280, 1024, 352, 256, 224)
#: One channel of fewer pixels than this on a side is rather a table of features (a spectrogram) than a picture.
_NARROWEST = 16
_DEFAULT_SIDE, _DETECTOR_SIDE = 224, 640


@dataclass(frozen=True)
class PictureInput:
    """The input with every length known. picture: whether it takes one; height, width and channels are 0 when it does not."""

    name: str
    shape: tuple[int, ...]
    pinned: bool
    height: int
    width: int
    channels: int
    nhwc: bool
    choices: tuple[Choice, ...]

    @property
    def picture(self) -> bool:
        """Whether the input takes a picture."""
        return self.channels > 0


def choose_input(given: Input, notes: MakerNotes, outputs: Sequence[tuple[int, ...]]) -> PictureInput:
    """The input as it is proposed. outputs: shapes of the outputs in the file, -1 where free."""
    axes = _axes(given.shape)
    if axes is None:
        shape = tuple(1 if length < 0 else length for length in given.shape)
        why = "No axis of the input has the length 1 or 3 of a picture's channels."
        return _other(given, shape, why)
    channel, height, width = axes
    size, sure, why = _size(given.shape[height], given.shape[width], notes, outputs)
    shape = tuple({0: 1, channel: given.shape[channel], height: size[0], width: size[1]}[axis] for axis in range(4))
    if given.shape[channel] == 1 and min(size) < _NARROWEST:
        return _other(given, shape, f"One channel of {size[1]} x {size[0]} is rather a table of features than a picture.")
    pinned = any(length < 0 for length in given.shape)
    shape = (given.shape[0] if given.shape[0] > 0 else 1, *shape[1:])
    choices = [
        Choice("input", f"{given.name} {list(shape)}", sure, why, "" if sure == "certain" else "The size of the training's pictures.")
    ]
    if shape[0] != 1:
        what = f"The graph takes {shape[0]} pictures at once, and a pipeline feeds one."
        choices.append(Choice("batch", str(shape[0]), "certain", what, "Export the model with a batch of 1."))
    return PictureInput(given.name, shape, pinned, *size, given.shape[channel], channel == 3, tuple(choices))


def _other(given: Input, shape: tuple[int, ...], why: str) -> PictureInput:
    pinned = any(length < 0 for length in given.shape)
    check = "Feed the network arrays: calibration and data set are .npz files, and pre-processing is up to you."
    choice = Choice("input", f"{given.name} {list(shape)}, not a picture", "guess" if pinned else "likely", why, check)
    return PictureInput(given.name, shape, pinned, 0, 0, 0, False, (choice,))


def _axes(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Axes of channels, height and width of a batch of pictures; None for another kind of input."""
    if len(shape) != 4:
        return None
    if shape[1] in (1, 3):
        return 1, 2, 3
    return (3, 1, 2) if shape[3] in (1, 3) else None


def _size(height: int, width: int, notes: MakerNotes, outputs: Sequence[tuple[int, ...]]) -> tuple[tuple[int, int], Certainty, str]:
    """Height and width, how sure they are, and why."""
    if height > 0 and width > 0:
        return (height, width), "certain", "As the graph says."
    if notes.size is not None:
        return notes.size, "certain", f"The graph leaves the size free; {notes.maker or 'the maker of the file'} noted it."
    if height > 0 or width > 0:
        side = max(height, width)
        return (side, side), "guess", "The graph fixes one side only; the other is taken to be as long."
    for side in _SIDES:
        network = Network(side, side, 3, ())
        rows = [cells for shape in outputs if len(shape) == 3 for cells in (shape[1] // 3, *shape[1:])]
        if any(cells > 0 and network.strides(cells) for cells in rows):
            return (side, side), "likely", f"The graph leaves the size free; its number of boxes is that of {side} x {side}."
    side = _DETECTOR_SIDE if len(outputs) > 1 or any(len(shape) == 3 for shape in outputs) else _DEFAULT_SIDE
    return (side, side), "guess", f"The graph leaves the size free; {side} x {side} is usual."
