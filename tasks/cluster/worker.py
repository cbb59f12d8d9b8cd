"""What the workers of a cluster run. Files come and go through the cache.

A mistake that a user can fix is an answer `Failed`; anything else is raised, and reaches the user as the bug that it is.
"""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TypeVar

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME, STAGES
from axforge.axruntime.engines.factory import open_engine
from axforge.axruntime.evaluate.datasets import open_dataset
from axforge.axruntime.evaluate.evaluate import measure
from axforge.axruntime.pipeline.calibration import CalibrationItem
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.cache.config import fresh_start
from axforge.cache.errors import CacheError
from axforge.tasks.cluster import parcel
from axforge.tasks.cluster.identity import identity
from axforge.tasks.cluster.messages import Answer, CompileAnswer, CompileJob, Failed, Job, MeasureJob, PartMeasured, StageDone
from axforge.tasks.project import settings
from axforge.tasks.project.command_line import ModelOptions
from axforge.tasks.project.failures import say
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.progress import Channel, Draw
from axforge.tasks.project.zoo import ZooModel
from axforge.tasks.stages.execution import obtain, open_cache
from axforge.tasks.stages.inputs import inputs_of

A = TypeVar("A", bound=Answer)
J = TypeVar("J", bound=Job)

#: Seconds between two reports of progress over the network.
_INTERVAL = 0.25
#: One job at a time in a process: what a stage prints is caught for its log by redirecting the process's output.
_ALONE = threading.Lock()


def answered(work: Callable[[J, Path], A]) -> "Callable[[J], A | Failed]":
    """Do a job alone, in a folder of its own."""

    @wraps(work)
    def whole(job: J) -> A | Failed:
        with _ALONE, _folder() as folder:
            try:
                _same_versions(job.versions)
                return work(job, folder)
            except Exception as error:
                if sentence := say(error):
                    return Failed(error=sentence, worker=name())
                raise
            finally:
                with contextlib.suppress(CacheError):  # a wrong configuration, which was the answer
                    fresh_start(Path.cwd())

    return whole


@answered
def compile_model(job: CompileJob, folder: Path) -> CompileAnswer:
    """Compile a model from check to the stage that is wanted; results are in the cache afterwards."""
    items = tuple(CalibrationItem(sample.name, folder / sample.file, sample.variant) for sample in job.samples)
    options = ModelOptions(cores=job.cores, num_cal_images=job.num_cal_images, effort=job.effort, force=job.force)
    plan = received(job, folder, options, items)
    fetched = plan.outputs(BY_NAME["fetch"])["model.onnx"]
    fetched.parent.mkdir(parents=True)
    (folder / "model.onnx").rename(fetched)
    stages = {}
    for stage in STAGES[1 : [stage.name for stage in STAGES].index(job.last) + 1]:
        store, inputs = open_cache(plan), inputs_of(plan, stage)
        result = obtain(store, inputs, inputs.action(store), scope="", force=plan.options.force)
        plan.channel.relay(plan.model.name, stage.name, 1, 1, "")
        stages[stage.name] = StageDone(result.how, round(result.seconds, 3))
    return CompileAnswer(stages=stages, worker=name())


@answered
def measure_part(job: MeasureJob, folder: Path) -> PartMeasured:
    """Measure a part of a model's data set."""
    plan = received(job, folder, ModelOptions(), None)
    dataset = open_dataset(plan.descriptor, folder / "data")
    engine = open_engine(job.pipe, folder / job.network)
    try:
        report = plan.channel.reporter(plan.model.name, f"part {job.part[0] + 1}")
        measured = measure(Pipeline(plan.descriptor, engine), dataset, limit=job.limit, part=job.part, progress=report)
        return PartMeasured(measured=measured, worker=name())
    finally:
        engine.close()


def received(job: Job, folder: Path, options: ModelOptions, samples: tuple[CalibrationItem, ...] | None) -> BuildPlan:
    """The plan of a job, with its files laid out in an empty folder; its stages report to whoever sent the job."""
    here = settings.Settings(Path.cwd(), folder, folder / "build", folder / "data", (folder / "models",))
    model = ZooModel(job.model, folder / "models" / job.model / "model.json", job.raw)
    plan = BuildPlan(model, options, here, Channel(_reporter(job.topic)), samples)
    parcel.receive(open_cache(plan), job.files, folder)
    model.path.parent.mkdir(parents=True, exist_ok=True)
    model.path.write_text(job.descriptor, encoding="utf-8")
    return plan


def name() -> str:
    """What to call this worker in reports."""
    try:
        from distributed import get_worker  # an optional package

        return f"{socket.gethostname()} ({get_worker().address})"
    except ValueError:
        return socket.gethostname()


def _same_versions(wanted: dict[str, str]) -> None:
    """The worker must be what would otherwise have run here: the same key is to mean the same bytes."""
    found = identity()
    for what, version in wanted.items():
        if found.get(what) != version:
            raise AxforgeError(
                f"This worker has {what} {found.get(what, '(none)')}, and the job is from {version}.",
                fix="Install the same versions on all machines, and start the workers again.",
            )


def _reporter(topic: str) -> Draw:
    """Reports as events of Dask, not too many."""
    from distributed import get_worker  # an optional package

    worker = get_worker()
    last = [0.0]

    def draw(model: str, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if model and done != total and now - last[0] < _INTERVAL:
            return
        last[0] = now
        worker.log_event(topic, (model, stage, done, total, note if model else f"worker {name()}: {note}"))

    return draw


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A new folder below the worker's own, which Dask removes also when a worker was killed."""
    from distributed import get_worker  # an optional package

    with tempfile.TemporaryDirectory(prefix="axforge-", dir=get_worker().local_directory) as folder:
        yield Path(folder)
