"""Which samples a model is calibrated with, by content; the pipeline turns them into feeds.

The key holds the content of the chosen samples, the parameters of pre-processing, and the versions of the libraries that decode
and resize. It holds no names and no order: samples are fed in the order of their hashes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.tasks.plan import Plan

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.calibration import CalibrationItem
    from axforge.cache.key import Tree

#: Name of the samples among the inputs of the stage, in keys and explanations.
INPUT = "calibration"


@dataclass(frozen=True)
class Chosen:
    """items: the samples. folders: whose listings (or absence) decided the choice."""

    items: "tuple[CalibrationItem, ...]"
    folders: tuple[Path, ...]

    def files(self) -> list[Path]:
        """The files the samples are in, each once."""
        return list(dict.fromkeys(Path(item.path) for item in self.items))

    def names(self, store: Any) -> list[str]:
        """A SHA-256 of each sample: of its file, and of which part of that."""
        files = self.files()
        found = {path: digest.sha256 for path, digest in zip(files, store.files.digests(files), strict=True)}
        return [_name(found[Path(item.path)], item.variant) for item in self.items]

    def tree(self, store: Any) -> "Tree":
        """The samples as one input; their names serve explanations only."""
        from axforge.cache.key import Tree

        names = self.names(store)
        labels = [f"{item.name}{f' {item.variant}' if item.variant else ''}" for item in self.items]
        named = {}
        for i, (label, name) in enumerate(zip(labels, names, strict=True)):
            named[label if labels.count(label) == 1 else f"{i}: {label}"] = name
        return Tree.of(named)


def _name(content: str, variant: str) -> str:
    return hashlib.sha256(f"{content} {variant}".encode()).hexdigest() if variant else content


class Feeds:
    """The samples as feeds of the network, in the order of their hashes; has a length, for progress."""

    def __init__(self, plan: Plan, chosen: Chosen, names: list[str]) -> None:
        self.plan = plan
        order = sorted(range(len(names)), key=lambda i: names[i])
        self.items = [chosen.items[i] for i in order]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        from axforge.axcompiler.stages import BY_NAME
        from axforge.axruntime.pipeline.calibration import feeds, onnx_inputs

        checked = self.plan.outputs(BY_NAME["check"])["checked.onnx"]
        return iter(feeds(self.plan.descriptor, self.items, onnx_inputs(checked)))


def choose(plan: Plan) -> Chosen:
    """The samples for a model. Raises AxforgeError when there are none."""
    if plan.samples is not None:
        return plan.samples
    from axforge.axruntime.pipeline.calibration import calibration_samples

    root = plan.settings.data_root
    items = tuple(calibration_samples(plan.descriptor, root, plan.options.num_cal_images or None))
    calibration = plan.descriptor.calibration
    named = [root / calibration.path] if calibration is not None and root is not None else []
    return Chosen(items, tuple(dict.fromkeys([*named, *(Path(item.path).parent for item in items)])))


def facts(plan: Plan) -> Mapping[str, Any]:
    """What decides the feeds besides the samples."""
    import json

    from axforge.axruntime.pipeline.descriptor import preprocessing_fingerprint

    return {"preprocessing": json.loads(preprocessing_fingerprint(plan.descriptor))}


def libraries() -> tuple[str, ...]:
    """Distributions that decide the feeds."""
    from axforge.axruntime.pipeline.descriptor import FEEDING_LIBRARIES

    return tuple(FEEDING_LIBRARIES)
