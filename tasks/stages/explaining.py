"""What a build of a model would do now, stage by stage, and why. Runs nothing and restores nothing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import STAGES, Stage
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.stages.inputs import NOUNS, inputs_of

if TYPE_CHECKING:
    from axforge.cache.explain import Explanation
    from axforge.cache.store import Store

UP_TO_DATE = "up to date"
RESTORED = "would be restored from the cache"
RUN = "would run"
OPEN = "would run, unless it gets what it got before"


@dataclass(frozen=True)
class StageVerdict:
    """What a build would do with one stage.

    reasons: as the cache sees it; None when the stage's inputs are not known yet. waits_for: the stage that decides.
    """

    stage: str
    what: str
    reasons: "Explanation | None" = None
    waits_for: str = ""

    def lines(self) -> list[str]:
        """The verdict and its reasons as lines for people."""
        if self.waits_for:
            return [f"{self.stage}: {self.what} ({self.waits_for} runs first)"]
        found = [f"{self.stage}: {self.what}"]
        if self.reasons is None or self.what == UP_TO_DATE:
            return found
        if self.reasons.last is None:
            found.append("    not built here before")
        found += [f"    since the last build: {change.line()}" for change in self.reasons.against_last]
        if self.reasons.last is not None and not self.reasons.against_last:
            found.append("    no input changed since the last build; its outputs are not there, or not what they were")
        near = self.reasons.nearest
        if self.what == RUN and near is not None and (self.reasons.last is None or near.key != self.reasons.last.key):
            found += [
                f"    against the nearest in the cache ({near.label or near.key[:12]}): {c.line()}" for c in self.reasons.against_nearest
            ]
        return found

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types."""
        reasons = self.reasons.to_json() if self.reasons else None
        return {"stage": self.stage, "verdict": self.what, "waits_for": self.waits_for or None, "reasons": reasons}


def explain(plan: BuildPlan) -> list[StageVerdict]:
    """A verdict for each stage, in order. Raises AxforgeError when a source is not there."""
    from axforge.cache.config import open_store  # a build with nothing to do opens no cache

    store = open_store(plan.settings.project)
    made: dict[str, str] = {}
    decided_by: dict[str, str] = {}
    verdicts = []
    for stage in STAGES:
        blocker = next((decided_by[name] for name in stage.inputs if name in decided_by), "")
        if blocker:
            verdicts.append(StageVerdict(stage.name, OPEN, waits_for=blocker))
        else:
            verdicts.append(_verdict(plan, stage, store, made))
        if verdicts[-1].what in (RUN, OPEN):
            decided_by.update(dict.fromkeys(stage.outputs, blocker or stage.name))
    return verdicts


def cached_keys(plan: BuildPlan) -> list[str]:
    """The key of every stage as a build would name it now. AxforgeError when the result of one is not in the cache."""
    keys = []
    for verdict in explain(plan):
        if verdict.reasons is None or verdict.what not in (UP_TO_DATE, RESTORED):
            what = f"The result of {verdict.stage} is not in the cache, so what depends on it is not complete."
            raise AxforgeError(what, where=plan.model.name, fix=f"Compile it first: doit compile:{plan.model.name}.")
        keys.append(verdict.reasons.key)
    return keys


def _verdict(plan: BuildPlan, stage: Stage, store: "Store", made: dict[str, str]) -> StageVerdict:
    from axforge.cache.explain import why  # a build with nothing to do opens no cache

    action = inputs_of(plan, stage).action(store, made)
    reasons = why(store, action, label=plan.model.name, scope=plan.scope, nouns=NOUNS)
    record = store.lookup(action, count=False)
    if record is None:
        return StageVerdict(stage.name, RUN, reasons)
    made.update({output.name: output.sha256 for output in record.outputs})
    intact = store.intact(record, plan.folder(stage))
    return StageVerdict(stage.name, UP_TO_DATE if intact else RESTORED, reasons)
