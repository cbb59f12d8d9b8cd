"""Who runs a stage whose result is not in the cache: this process, or somebody else."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from axforge.axcompiler.stages import Stage
from axforge.tasks.project.plan import BuildPlan

if TYPE_CHECKING:
    from axforge.cache.key import Action
    from axforge.cache.store import Store


class Elsewhere(NamedTuple):
    """A stage that somebody else ran for this build."""

    worker: str
    seconds: float


class Executor(Protocol):
    """Makes sure that stages get done."""

    def announce(self, plan: BuildPlan, stage: Stage) -> None:
        """Note that a stage belongs to this run. Called for all of them before the first is looked at."""

    def delegate(self, plan: BuildPlan, stage: Stage, store: "Store", action: "Action") -> Elsewhere | None:
        """Make sure that a stage's result is in the cache; None when it is for the caller to restore or run. Raises AxforgeError."""


class Here:
    """The executor that leaves every stage to this process."""

    def announce(self, plan: BuildPlan, stage: Stage) -> None:
        """Nothing has to be prepared."""

    def delegate(self, plan: BuildPlan, stage: Stage, store: "Store", action: "Action") -> Elsewhere | None:
        """None: the caller runs the stage."""
        return None
