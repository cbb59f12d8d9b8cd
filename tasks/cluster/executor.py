"""Stages of this run that are compiled on a cluster: all models that need it, sent together when the first is found missing.

A stage whose result is in the cache is restored as ever. For another one the whole rest of its model is compiled by a worker, whose
results come back through the cache that both share, so that what follows is an ordinary restore.
"""

import uuid
from functools import cached_property
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME, STAGES, Stage
from axforge.cache.errors import CacheError
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.progress import in_worker
from axforge.tasks.stages.execution import obtain_stage
from axforge.tasks.stages.executor import Elsewhere
from axforge.tasks.stages.explaining import OPEN, RUN, explain

if TYPE_CHECKING:
    from axforge.cache.key import Action
    from axforge.cache.store import Store
    from axforge.tasks.cluster.client import Cluster
    from axforge.tasks.cluster.messages import CompileAnswer  # loads NumPy

_ORDER = [stage.name for stage in STAGES]


class ClusterExecutor:
    """The workers of the scheduler at `address`. Its processes of `doit -n K`, which are forked later, share the names of their jobs."""

    def __init__(self, address: str) -> None:
        self.address, self.run = address, uuid.uuid4().hex
        self._wanted: dict[str, tuple[BuildPlan, str]] = {}  # plans of this run, and the last stage that is wanted of each, by model
        self._sent: dict[str, Sent] = {}

    def announce(self, plan: BuildPlan, stage: Stage) -> None:
        """Note that a stage belongs to this run, so that all models can be sent when the first is."""
        before = self._wanted.get(plan.model.name, (plan, "fetch"))[1]
        self._wanted[plan.model.name] = plan, max(before, stage.name, key=_ORDER.index)

    def delegate(self, plan: BuildPlan, stage: Stage, store: "Store", action: "Action") -> Elsewhere | None:
        """Bring a stage's result into the cache, by having its model compiled on the cluster if it is not. Raises AxforgeError."""
        name = plan.model.name
        if stage.name == "fetch":
            return None  # the source is here
        if name not in self._sent:
            if not plan.options.force and store.lookup(action, count=False) is not None:
                return None
            self._sent[name] = self._send(*self._wanted.setdefault(name, (plan, "pack")))
            if not in_worker():  # of `doit -n K`: there each process sends the models that it is given
                self._send_others(name)
        answer = self._sent[name].answer
        if store.lookup(action, count=False) is None:
            raise AxforgeError(
                f"{name} was compiled on worker {answer.worker}, and its {stage.name} has not come back through the cache.",
                fix="Workers must write to the cache that is read here: the same cache.remote in mode rw, or a shared cache.dir.",
            )
        done = answer.stages.get(stage.name)
        return Elsewhere(answer.worker, done.seconds) if done is not None and done.how == "ran" else None

    def _send(self, plan: BuildPlan, last: str) -> "Sent":
        return Sent(self._cluster(plan), plan, last, f"compile-{plan.model.name}-{self.run}")

    def _send_others(self, but: str) -> None:
        """Send all other models of this run that need it. One that cannot be sent fails, with its sentence, when it is looked at."""
        for name, (plan, last) in self._wanted.items():
            if name == but or name in self._sent or last == "fetch":
                continue
            try:
                obtain_stage(plan, BY_NAME["fetch"])
                if plan.options.force or _needs_work(plan, last):
                    self._sent[name] = self._send(plan, last)
            except (AxforgeError, CacheError):
                continue

    def _cluster(self, plan: BuildPlan) -> "Cluster":
        from axforge.tasks.cluster.client import cluster_at  # loads Dask

        return cluster_at(self.address, plan.channel)


class Sent:
    """One model on its way."""

    def __init__(self, cluster: "Cluster", plan: BuildPlan, last: str, name: str) -> None:
        from axforge.tasks.cluster.jobs import compile_job  # loads NumPy
        from axforge.tasks.cluster.worker import compile_model  # loads NumPy

        self._cluster, self._what = cluster, plan.model.name
        self._future = cluster.submit(compile_model, compile_job(plan, last), name)

    @cached_property
    def answer(self) -> "CompileAnswer":
        """The worker's answer, when it is there. Raises AxforgeError."""
        from axforge.tasks.cluster.messages import CompileAnswer  # loads NumPy

        return self._cluster.result(self._future, self._what, CompileAnswer)


def _needs_work(plan: BuildPlan, last: str) -> bool:
    verdicts = {verdict.stage: verdict.what for verdict in explain(plan)}
    return any(verdicts[name] in (RUN, OPEN) for name in _ORDER[: _ORDER.index(last) + 1])
