"""What `support.json` says of the work of a network: the multiply-adds that the AIPU does, and the nodes that do most of the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FILE = "support.json"
#: how many nodes elsewhere are named
NAMED = 3
#: a share below this is worth a warning
ENOUGH = 0.9


@dataclass(frozen=True)
class Offloaded:
    """A node that does not run on the AIPU: how many multiply-adds it is, where it runs and why."""

    node: str
    op_type: str
    multiply_adds: int
    place: str
    reason: str


@dataclass(frozen=True)
class Share:
    """total, aipu: multiply-adds of all nodes, and of those on the AIPU. elsewhere: the NAMED largest of the others, in that order."""

    total: int
    aipu: int
    elsewhere: Sequence[Offloaded]

    @property
    def share(self) -> float:
        """0 to 1; 1 for a network without products."""
        return self.aipu / self.total if self.total else 1.0

    @property
    def enough(self) -> bool:
        """Whether nobody has to be warned."""
        return self.share >= ENOUGH

    def as_json(self) -> dict[str, Any]:
        """The entry `multiply_adds` of support.json."""
        return {"total": self.total, "aipu": self.aipu, "elsewhere": [vars(one) for one in self.elsewhere]}

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Share":
        """From what support.json holds."""
        entry = report["multiply_adds"]
        return cls(entry["total"], entry["aipu"], [Offloaded(**one) for one in entry["elsewhere"]])

    def summary(self) -> str:
        """The share in a few words."""
        return f"only {_percent(self.share)} of the multiply-adds run on the AIPU" if self.aipu else "no multiply-add runs on the AIPU"

    def warning(self) -> str:
        """What a user should know where it is not enough: the share, and a line for each node elsewhere that is named."""
        rows = [f"{one.op_type} '{one.node}', {_percent(one.multiply_adds / self.total)}: {one.reason}" for one in self.elsewhere]
        return f"{self.summary()}; most of the rest:" + "".join(f"\n      {row}" for row in rows)


def _percent(share: float) -> str:
    """Never 0 or 100 for what only rounds to it."""
    rounded = round(100 * share)
    if rounded in (0, 100) and share not in (0.0, 1.0):
        return "less than 1 %" if rounded == 0 else "more than 99 %"
    return f"{rounded} %"
