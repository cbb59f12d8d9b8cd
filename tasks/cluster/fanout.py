"""Which models of this run are compiled on the cluster: all that need it, sent together when the first is found missing.

A stage whose result is in the cache is restored as ever. For another one the whole rest of its model is compiled by a worker, whose
results come back through the cache that both share, so that what follows is an ordinary restore.
"""

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME, STAGES
from axforge.tasks import progress
from axforge.tasks.cluster import parcel
from axforge.tasks.cluster.client import Answer, Cluster, Job
from axforge.tasks.plan import SDK, Plan, versions
from axforge.tasks.stages.code import sources

if TYPE_CHECKING:
    from axforge.cache.key import Action
    from axforge.cache.store import Store
    from axforge.tasks.stages.task import StageTask

#: Plans of this run that have stages to do, and the last stage that is wanted of each, by model.
_WANTED: dict[str, tuple[Plan, str]] = {}
_SENT: dict[str, "Sent"] = {}
#: Names the jobs of this run. Known to all processes of `doit -n K`, which are forked later, so that they share their jobs.
RUN = uuid.uuid4().hex
_ORDER = [stage.name for stage in STAGES]


def announce(tasks: Mapping[str, Any], selected: Sequence[str]) -> None:
    """Before anything runs: the tasks of this run, so that all models can be sent when the first is."""
    waiting, seen = list(selected), set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in tasks:
            continue
        seen.add(name)
        waiting += tasks[name].task_dep
        meta = tasks[name].meta or {}
        if (plan := meta.get("elsewhere")) is not None:
            before = _WANTED.get(plan.model.name, (plan, "fetch"))[1]
            _WANTED[plan.model.name] = (plan, max(before, meta["stage"], key=_ORDER.index))


@lru_cache
def cluster_at(address: str) -> Cluster:
    """The connection of this process to a scheduler."""
    return Cluster(address)


class Sent:
    """One model on its way. answer: of the worker, or what kept it from being sent."""

    def __init__(self, plan: Plan, last: str) -> None:
        self._cluster, self._what = cluster_at(plan.cluster), plan.model.name
        self._answer: Answer | None = None
        from axforge.tasks.cluster.worker import compile_model

        self._future = self._cluster.submit(compile_model, job_of(plan, last), f"compile-{plan.model.name}-{RUN}")

    def answer(self) -> Answer:
        """Wait for it."""
        if self._answer is None:
            self._answer = self._cluster.result(self._future, self._what)
        return self._answer


def compiled_there(task: "StageTask", store: "Store", action: "Action") -> dict[str, Any] | None:
    """See that a stage's result is in the cache, by having its model compiled on the cluster if it is not.

    Returns how the worker got it, or None if there was nothing to send. Raises AxforgeError.
    """
    plan, stage = task.plan, task.stage
    name = plan.model.name
    if name not in _SENT:
        if not plan.options.force and store.lookup(action, count=False) is not None:
            return None
        _WANTED.setdefault(name, (plan, "pack"))
        _SENT[name] = Sent(*_WANTED[name])
        if not progress.in_worker():  # of `doit -n K`: there each process sends the models that it is given
            _send_others(name)
    answer = _SENT[name].answer()
    if store.lookup(action, count=False) is None:
        raise AxforgeError(
            f"{name} was compiled on worker {answer['worker']}, and its {stage.name} has not come back through the cache.",
            fix="Workers must write to the cache that is read here: the same cache.remote in mode rw, or a shared cache.dir.",
        )
    done = answer["stages"].get(stage.name)
    return {"how": "ran", "seconds": done["seconds"], "worker": answer["worker"]} if done and done["how"] == "ran" else None


def _send_others(but: str) -> None:
    """Send all other models of this run that need it. One that cannot be sent fails, with its sentence, when its turn comes."""
    from axforge.cache.errors import CacheError
    from axforge.tasks.stages.task import StageTask

    for name, (plan, last) in _WANTED.items():
        if name == but or name in _SENT or last == "fetch":
            continue
        try:
            StageTask(plan, BY_NAME["fetch"]).execute()
            if plan.options.force or _needs_work(plan, last):
                _SENT[name] = Sent(plan, last)
        except (AxforgeError, CacheError):
            continue


def _needs_work(plan: Plan, last: str) -> bool:
    from axforge.tasks.explaining import OPEN, RUN, explain

    verdicts = {verdict.stage: verdict.what for verdict in explain(plan)}
    return any(verdicts[name] in (RUN, OPEN) for name in _ORDER[: _ORDER.index(last) + 1])


def job_of(plan: Plan, last: str) -> Job:
    """A model up to stage `last` as a job: its descriptor and options, and a parcel with the network and the samples."""
    from axforge.tasks.stages.inputs import chosen_samples

    files: dict[str, Path] = {"model.onnx": plan.outputs(BY_NAME["fetch"])["model.onnx"]}
    samples = []
    if _ORDER.index(last) >= _ORDER.index("calibrate"):
        chosen = chosen_samples(plan)
        places = {path: f"samples/{i}{path.suffix}" for i, path in enumerate(chosen.files())}
        files |= {place: path for path, place in places.items()}
        samples = [{"name": item.name, "variant": item.variant, "file": places[Path(item.path)]} for item in chosen.items]
    if plan.own_target:
        files[f"models/{plan.model.name}/{plan.own_target}"] = plan.target
    options = {"cores": plan.cores, "num_cal_images": plan.options.num_cal_images, "force": plan.options.force}
    return {**job_for(plan, files), "options": options, "samples": samples, "last": last}


def job_for(plan: Plan, files: Mapping[str, Path]) -> dict[str, Any]:
    """What every job says: the model, its files, and which versions it is for."""
    from axforge.cache.config import open_store

    store = open_store(plan.settings.project, warn=lambda sentence: progress.say(f"cache: {sentence}"))
    described = {**plan.model.raw, "labels": list(plan.descriptor.labels)} if plan.descriptor.labels else plan.model.raw
    return {
        "model": plan.model.name,
        "descriptor": described,
        "files": parcel.send(store, files, plan.model.name),
        "versions": identity(),
    }


def identity() -> dict[str, str]:
    """What must be the same here and on a worker: versions of axforge and of all libraries that decide bytes, and the code itself."""
    from axforge.axruntime.pipeline.descriptor import FEEDING_LIBRARIES

    libraries = {name for stage in STAGES for name in stage.libraries} | set(FEEDING_LIBRARIES)
    return {"axforge": SDK, "code of axforge": _code(), **versions(tuple(sorted(libraries)))}


@lru_cache
def _code() -> str:
    return sources().everything()[:16]
