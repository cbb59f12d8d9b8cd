"""The notes that the maker of an ONNX file left in its metadata. They are data: nothing in them is ever evaluated as code."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

#: Longest text of class names that is read: 10,000 classes with long names.
_LONGEST = 1 << 20
#: Keys under which exporters write class names.
_NAMES = ("names", "class_names", "classes", "labels")
_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class MakerNotes:
    """maker: the exporter, '' when unknown. class_names: () when the file names none. size: height and width of the picture.

    end_to_end: whether the exporter says that non-maximum suppression is part of the graph.
    """

    maker: str = ""
    task: str = ""
    class_names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    end_to_end: bool = False
    description: str = ""
    license: str = ""


def notes(properties: Mapping[str, str]) -> MakerNotes:
    """What is known of `properties`, the `metadata_props` of an ONNX file. What cannot be understood is left out."""
    ultralytics = properties.get("author", "").lower() == "ultralytics" or "ultralytics" in properties.get("description", "").lower()
    return MakerNotes(
        maker="Ultralytics" if ultralytics else "",
        task=_word(properties.get("task", "")),
        class_names=next((names for key in _NAMES if (names := _class_names(properties.get(key, "")))), ()),
        size=_size(properties.get("imgsz", "")),
        end_to_end=_literal(properties.get("end2end", "")) is True,
        description=_line(properties.get("description", "")),
        license=_line(properties.get("license", "")),
    )


def _literal(text: str) -> object:
    """`text` read as JSON or as a Python literal; None when it is neither, or is too long or nested too deeply."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _class_names(text: str) -> tuple[str, ...]:
    """Names of a list, or of a mapping from 0, 1, 2... (as numbers or as text) to names; () when there is a gap or something else."""
    value = _literal(text)
    if isinstance(value, dict):
        numbered = {str(key): name for key, name in value.items()}
        value = [numbered.get(str(i)) for i in range(len(numbered))]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= _MOST_CLASSES:
        return ()
    names = tuple(_line(name) for name in value if isinstance(name, str))
    return names if len(names) == len(value) and all(names) else ()


def _size(text: str) -> tuple[int, int] | None:
    match _literal(text):
        case [int(height), int(width)] if 0 < height <= 16384 and 0 < width <= 16384:
            return height, width
        case int(side) if 1 < side <= 16384:
            return side, side
    return None


def _word(text: str) -> str:
    return text if text.isalnum() and len(text) <= 40 else ""


def _line(text: str) -> str:
    """`text` on one line, printable, and not longer than a description needs."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
