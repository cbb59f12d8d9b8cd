"""`doit cache verify --rebuild MODEL…`: runs some stages again, and compares what they give with what their records say.

The only way to find out whether a record is true. It needs no trust in who made it: a stage gives the same bytes for the same inputs.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import STAGES, Stage
from axforge.cache.digest import hash_once
from axforge.cache.disk import host
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.stages.execution import open_cache, run_stage
from axforge.tasks.stages.inputs import inputs_of

if TYPE_CHECKING:
    from axforge.cache.record import Record
    from axforge.cache.store import Store


@dataclass(frozen=True)
class Rebuilt:
    """One stage that was run again. differs: outputs with other bytes than the record says. made_on: the host that the record names."""

    model: str
    stage: str
    key: str
    differs: tuple[str, ...]
    made_on: str

    def lines(self) -> list[str]:
        """The comparison as lines for people."""
        head = f"{self.model}: {self.stage} ({self.key[:12]}…, made on {self.made_on})"
        if not self.differs:
            return [f"{head}: the same bytes"]
        advice = "The record is wrong, or was made on another kind of CPU: calibrate and quantize compute in float32."
        return [f"{head}: OTHER BYTES on {host()}: {', '.join(self.differs)}", f"  {advice} `cache clean --model {self.model}` drops it."]

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types."""
        return asdict(self)


def rebuild(plans: Sequence[BuildPlan], sample: int, seed: int) -> list[Rebuilt]:
    """Run `sample` of all stages of the models again, chosen by `seed`. Raises AxforgeError when one of them is not in the cache."""
    pairs = [(number, stage.name) for number in range(len(plans)) for stage in STAGES]
    chosen = set(random.Random(seed).sample(pairs, min(sample, len(pairs))))
    found = []
    for number, plan in enumerate(plans):
        wanted = {stage for which, stage in chosen if which == number}
        if wanted:
            store = open_cache(plan)
            with store.work() as folder:
                found += _rebuild(store, replace(plan, settings=replace(plan.settings, build_root=folder)), wanted)
    return found


def _rebuild(store: "Store", plan: BuildPlan, wanted: set[str]) -> list[Rebuilt]:
    """Restore a model's stages one after another into a build folder of its own, and run the wanted ones beside it."""
    found = []
    for stage in STAGES:
        inputs = inputs_of(plan, stage)
        record = store.lookup(inputs.action(store), count=False)
        if record is None:
            what = f"The result of {stage.name} is not in the cache, so there is nothing to compare with."
            raise AxforgeError(what, where=plan.model.name, fix=f"Compile it first: doit compile:{plan.model.name}.")
        store.restore(record, plan.folder(stage))
        if stage.name in wanted:
            with store.work() as made:
                run_stage(store, inputs, made)
                found.append(_compared(plan, stage, record, made))
    return found


def _compared(plan: BuildPlan, stage: Stage, record: "Record", made: Path) -> Rebuilt:
    contents = {path.name: hash_once(path, strong=True).sha256 for path in made.iterdir()}
    differs = tuple(output.name for output in record.outputs if contents.get(output.name) != output.sha256)
    return Rebuilt(plan.model.name, stage.name, record.key, differs, str(record.provenance.get("host", "?")))
