"""What a source of pictures is, and the register of the kinds that there are. Each kind is one module in `sources/`."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from axforge.axruntime.lazy import Array


class Frame(msgspec.Struct, frozen=True):
    """image: uint8 RGB [H, W, 3], or a dataset's own array that is not a picture. name: without folder, unique in a source."""

    index: int
    name: str
    image: Array


class Skipped(msgspec.Struct, frozen=True):
    """A picture of a source that could not be used. index, name: as of a frame. reason: a sentence."""

    index: int
    name: str
    reason: str


class FrameSource(msgspec.Struct, frozen=True):
    """Frames in order; may be iterated again. total: how many, None where that is unknown. fps: of videos and cameras."""

    name: str
    total: int | None
    video: bool
    fps: float | None
    frames: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


class Named(Protocol):
    """A sample of a dataset, as a source needs it."""

    @property
    def name(self) -> str:
        """The sample's name, unique in its dataset."""
        ...

    @property
    def image(self) -> Array:
        """uint8 RGB [H, W, 3], or an array of the dataset's own kind."""
        ...


class Samples(Protocol):
    """A dataset, as a source needs it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Named: ...


class Request(msgspec.Struct, frozen=True):
    """What `open_source` was called with. text: as it was typed. rest: what follows the scheme's colon, or the path of a file.

    frames: how many at most. dataset: opens the model's dataset, given the split; None without a model. skip: is called with each
    picture of many that cannot be read, which is then left out; None: such a picture is an error.
    """

    text: str
    rest: str
    frames: int | None = None
    dataset: Callable[[str | None], Samples] | None = None
    skip: Callable[[Skipped], None] | None = None

    @property
    def path(self) -> Path:
        """The file, for a source that is one."""
        return Path(self.rest)

    def limited(self, total: int) -> int:
        """How many of `total` frames are wanted."""
        return total if self.frames is None else min(total, self.frames)


#: Opens a source. Raises AxforgeError when it is not there or not readable.
Opener = Callable[[Request], FrameSource]
OpenerT = TypeVar("OpenerT", bound=Opener)
SCHEMES: dict[str, Opener] = {}
SUFFIXES: dict[str, Opener] = {}
#: How sources are typed, for the sentence that lists them.
FORMS: list[str] = []


def register(form: str, *, schemes: Iterable[str] = (), suffixes: Iterable[str] = ()) -> Callable[[OpenerT], OpenerT]:
    """Make a kind of source known (a decorator) by the words before a colon, or by the suffixes of files, that mean it.

    form: how it is typed, for messages: "usb:N".
    """

    def keep(opener: OpenerT) -> OpenerT:
        for table, names in ((SCHEMES, schemes), (SUFFIXES, suffixes)):
            for name in names:
                if table.setdefault(name, opener) is not opener:
                    raise TypeError(f"{opener.__module__}: '{name}' means another source already: {table[name].__module__}")
        FORMS.append(form)
        return opener

    return keep
