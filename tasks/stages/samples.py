"""Which samples a model is calibrated with, by content; the pipeline turns them into feeds.

The key holds the content of the chosen samples, the parameters of pre-processing, the code that decodes and prepares them (this
module's own among it), and the versions of the libraries it uses. It holds no names and no order: samples are fed in the order of
their hashes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.ahead import ahead
from axforge.axruntime.pipeline.calibration import CalibrationItem, calibration_samples, feeds, onnx_inputs
from axforge.axruntime.pipeline.descriptor import FEEDING_LIBRARIES, Descriptor, preprocessing_fingerprint
from axforge.cache.key import Tree

if TYPE_CHECKING:
    from axforge.cache.store import Store

#: Name of the samples among the inputs of the stage, in keys and explanations.
INPUT = "calibration"
#: Distributions that decide the feeds.
LIBRARIES = tuple(FEEDING_LIBRARIES)


@dataclass(frozen=True)
class Chosen:
    """items: the samples. folders: whose listings (or absence) decided the choice."""

    items: tuple[CalibrationItem, ...]
    folders: tuple[Path, ...]

    def files(self) -> list[Path]:
        """The files the samples are in, each once."""
        return list(dict.fromkeys(Path(item.path) for item in self.items))

    def names(self, store: "Store") -> list[str]:
        """A SHA-256 of each sample: of its file, and of which part of that."""
        files = self.files()
        found = {path: digest.sha256 for path, digest in zip(files, store.files.digests(files), strict=True)}
        return [_name(found[Path(item.path)], item.variant) for item in self.items]

    def tree(self, names: list[str]) -> Tree:
        """The samples as one input, from their SHA-256; the labels serve explanations only."""
        labels = [f"{item.name}{f' {item.variant}' if item.variant else ''}" for item in self.items]
        named = {}
        for i, (label, name) in enumerate(zip(labels, names, strict=True)):
            named[label if labels.count(label) == 1 else f"{i}: {label}"] = name
        return Tree.of(named)


def _name(content: str, variant: str) -> str:
    return hashlib.sha256(f"{content} {variant}".encode()).hexdigest() if variant else content


class Feeds:
    """The samples as feeds of the network `checked`, in the order of their hashes; has a length, for progress."""

    def __init__(self, descriptor: Descriptor, chosen: Chosen, names: list[str], checked: Path) -> None:
        self.descriptor, self.checked = descriptor, checked
        order = sorted(range(len(names)), key=lambda i: names[i])
        self.items = [chosen.items[i] for i in order]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return ahead(feeds(self.descriptor, self.items, onnx_inputs(self.checked)))


def choose(descriptor: Descriptor, data_root: Path | None, count: int) -> Chosen:
    """The samples for a model, at most `count` of them (0: as the descriptor says). Raises AxforgeError when there are none."""
    items = tuple(calibration_samples(descriptor, data_root, count or None))
    calibration = descriptor.calibration
    named = [data_root / calibration.path] if calibration is not None and data_root is not None else []
    return Chosen(items, tuple(dict.fromkeys([*named, *(Path(item.path).parent for item in items)])))


def preprocessing(descriptor: Descriptor) -> Any:
    """The parameters of pre-processing as they enter the key."""
    return json.loads(preprocessing_fingerprint(descriptor))
