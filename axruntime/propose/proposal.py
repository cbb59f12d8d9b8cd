"""What a proposal consists of. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from axforge.axruntime.pipeline.descriptor import Descriptor
from axforge.axruntime.pipeline.step import Certainty

#: Grades of certainty, best first.
GRADES: tuple[Certainty, ...] = ("certain", "likely", "guess")


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen. why: the evidence, a sentence. check: what the user should look at, '' when there is nothing."""

    what: str
    value: str
    sure: Certainty
    why: str
    check: str = ""


@dataclass(frozen=True)
class Proposal:
    """The model.json that would be written for the ONNX at `source`. files: text of what belongs beside it, by name (labels)."""

    descriptor: Descriptor
    choices: tuple[Choice, ...]
    source: Path
    files: Mapping[str, str] = field(default_factory=dict)

    def choice(self, what: str) -> Choice | None:
        """The choice of `what`, None when there was nothing to choose."""
        return next((d for d in self.choices if d.what == what), None)
