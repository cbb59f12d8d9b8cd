"""Class names: those in the ONNX file, or of a label file that has as many."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline import labels
from axforge.axruntime.pipeline.step import Fit
from axforge.axruntime.propose.proposal import Choice

#: So few classes are those of any data set: the number alone says nothing.
_FEW = 20
#: Pictures of this size with three channels and ten classes are CIFAR-10, more often than not.
_CIFAR = (32, 32, 3, 10)


def read_label_files(folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Names in each .txt of `folders`, by file name; the first folder that has a name wins. What cannot be read is left out."""
    found: dict[str, tuple[str, ...]] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.txt"))):
        try:
            found.setdefault(path.name, labels.parse(path.read_bytes(), str(path)))
        except (OSError, AxforgeError):
            continue
    return found


def known_counts(files: Mapping[str, Sequence[str]]) -> frozenset[int]:
    """Numbers of classes that point to one of `files`, with and without its first name when that is the background."""
    counts = {len(names) for names in files.values()} | {len(names) - 1 for names in files.values() if _background(names)}
    return frozenset(count for count in counts if count >= _FEW)


def choose_labels(
    fit: Fit | None, own: Sequence[str], files: Mapping[str, tuple[str, ...]], picture: tuple[int, int, int]
) -> tuple[str, tuple[str, ...], Choice | None]:
    """A name for the label file, the names in it, and the choice; ('', (), ...) when there are no names to propose.

    own: names in the ONNX file. picture: height, width, channels.
    """
    classes = fit.classes if fit else 0
    if fit is None or not classes:
        return "", (), None
    if own and len(own) == classes:
        return "labels.txt", tuple(own), Choice("labels", f"{classes} names", "certain", "The file names its classes.")
    if fit.labels:
        return "labels.txt", fit.labels, Choice("labels", ", ".join(fit.labels), fit.sure, "What networks of this kind look for.")
    for name, names in files.items():
        if len(names) == classes and classes >= _FEW:
            why = f"{name} has {classes} names too, and nothing else speaks for it."
            return name, names, Choice("labels", name, "likely", why, f"Whether the classes are those of {name}, in its order.")
        if len(names) == classes + 1 and classes >= _FEW and _background(names):
            why = f"{name} has {classes} names besides the background."
            return "labels.txt", names[1:], Choice("labels", f"{name} without background", "guess", why, "Whether the classes are these.")
    return _of_few(classes, own, files, picture)


def _of_few(
    classes: int, own: Sequence[str], files: Mapping[str, tuple[str, ...]], picture: tuple[int, int, int]
) -> tuple[str, tuple[str, ...], Choice | None]:
    if (*picture, classes) == _CIFAR and "cifar10.txt" in files:
        why = "Ten classes of pictures of 32 x 32 pixels, as in CIFAR-10."
        return "cifar10.txt", files["cifar10.txt"], Choice("labels", "cifar10.txt", "guess", why, "Whether the classes are these.")
    why = f"The file names {len(own)} classes, and the output has {classes}." if own else "Nothing says what the classes are."
    fix = f"Name the {classes} classes: `labels` takes a list, or a file with one name on each line."
    return "", (), Choice("labels", "none: numbers are shown", "guess", why, fix)


def _background(names: Sequence[str]) -> bool:
    return bool(names) and names[0].lower() in ("background", "__background__")
