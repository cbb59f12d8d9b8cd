"""What a decoder sees of a network before any picture has run through it, to say whether it can read the outputs. Light to import."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

#: Strides of the maps that detectors without anchors concatenate, finest first; the usual ones come first.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (4, 8, 16))
#: Operators that move values and do not change them.
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Exp", "Pow"})


@dataclass(frozen=True)
class Head:
    """An output of a network. shape: -1 where a length is unknown.

    joined: lengths of the parts that the graph concatenates last to make this output, () when it ends in another way.
    last: type of the last operator that computes something (it may be followed by reshapes). tail: types of the operators between
    the last convolutions or matrix products and the output.
    """

    name: str
    shape: tuple[int, ...]
    integer: bool = False
    joined: tuple[int, ...] = ()
    last: str = ""
    tail: frozenset[str] = frozenset()

    @property
    def features(self) -> tuple[int, ...]:
        """`joined`, if it is the second axis, of features of a box in [1, features, N], that is joined; else ()."""
        return self.joined if len(self.shape) == 3 and sum(self.joined) == self.shape[1] else ()

    @property
    def computes(self) -> bool:
        """Whether the values of the last convolutions are scaled or shifted, as the decoding of boxes inside a graph does."""
        return bool(self.tail & _ARITHMETIC)


@dataclass(frozen=True)
class Network:
    """A network's picture and outputs. channels: of the picture; height and width are 0 when the input is not a picture.

    class_names: how many classes the file names, None when it names none. known_counts: how many labels the label files have that
    come along. task: as the maker of the file calls it ('detect', 'pose', ...), '' when it does not.
    """

    height: int
    width: int
    channels: int
    heads: tuple[Head, ...]
    class_names: int | None = None
    known_counts: frozenset[int] = frozenset()
    task: str = ""

    @property
    def only(self) -> Head | None:
        """The output when there is only one."""
        return self.heads[0] if len(self.heads) == 1 else None

    def believable(self, classes: int) -> bool:
        """Whether `classes` is the number of names in the file, or, if it names none, that of a label file."""
        return classes == self.class_names if self.class_names is not None else classes in self.known_counts

    def strides(self, cells: int) -> tuple[int, ...]:
        """Strides of the maps that have `cells` cells in all on this picture, finest first; () when no usual set has."""
        return next((s for s in _STRIDES if self.cells(s) == cells), ())

    def cells(self, strides: Sequence[int]) -> int:
        """How many cells maps of these strides have on this picture."""
        return sum((self.height // s) * (self.width // s) for s in strides)

    def points(self, strides: Sequence[int]) -> int:
        """How many cells maps of these strides have on this picture when a part of a cell counts as one."""
        return sum(-(-self.height // s) * -(-self.width // s) for s in strides)

    def map_strides(self) -> tuple[int, ...]:
        """Strides of the outputs when all of them are maps, [1, C, H, W] or [1, A, H, W, C], else ()."""
        areas = [_map_size(head.shape) for head in self.heads]
        strides = [self.height // height for height, width in areas if height and self.height * width == self.width * height]
        return tuple(strides) if len(strides) == len(self.heads) else ()


def _map_size(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) not in (4, 5) or min(shape[2:]) < 1:
        return 0, 0
    return shape[2], shape[3]


def flat_length(shape: tuple[int, ...]) -> int:
    """The length of a vector that has only axes of length 1 besides its own (the first axis may be free), else 0."""
    lengths = [length for axis, length in enumerate(shape) if length != 1 and not (axis == 0 and length == -1)]
    return prod(lengths) if len(lengths) == 1 and lengths[0] > 1 else 0
