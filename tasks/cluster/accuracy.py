"""`doit accuracy` on a cluster: the data set in parts, one for each thing the workers can do at once, and merged exactly.

The data set and the network travel through the cache like everything else: each worker gets what it has not got yet.
"""

from pathlib import Path

import msgspec

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.evaluate.datasets import open_dataset
from axforge.axruntime.evaluate.evaluate import AccuracyReport, report
from axforge.tasks.cluster.client import cluster_at
from axforge.tasks.cluster.jobs import measure_job
from axforge.tasks.cluster.messages import PartMeasured
from axforge.tasks.cluster.worker import measure_part
from axforge.tasks.project.engines import model_path
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.screen.display import counting


def measure_there(plan: BuildPlan, pipe: str) -> AccuracyReport:
    """One model on its data set. Raises AxforgeError."""
    cluster = cluster_at(plan.cluster, plan.channel)
    dataset = open_dataset(plan.descriptor, plan.settings.data_root)
    limit = plan.options.frames or None
    count = len(dataset) if limit is None else min(limit, len(dataset))
    parts = max(1, min(cluster.slots(), count))
    job = measure_job(plan, pipe, model_path(plan, pipe), limit, dataset_files(plan))
    name = f"measure-{plan.model.name}-{pipe}-{cluster.run}"
    jobs = [msgspec.structs.replace(job, part=(i, parts)) for i in range(parts)]
    sent = [cluster.submit(measure_part, part, f"{name}-{i}") for i, part in enumerate(jobs)]
    measured = []
    with counting(f"Measuring {plan.model.name} on {pipe}, {parts} parts") as progress:
        for done, future in enumerate(sent, start=1):
            measured.append(cluster.result(future, f"part {done} of {plan.model.name}", PartMeasured).measured)
            progress(done, parts, "")
    return report(plan.descriptor.name, measured)


def dataset_files(plan: BuildPlan) -> dict[str, Path]:
    """All files of a model's data set, by where they go on the worker. Raises AxforgeError for a data set outside the data root."""
    wanted, root = plan.descriptor.dataset, plan.settings.data_root
    assert wanted is not None  # else open_dataset has complained
    assert root is not None
    if Path(wanted.path).is_absolute():
        raise AxforgeError(
            "The data set's path is absolute, so it cannot be laid out on a worker.",
            where=wanted.path,
            fix="Give it relative to the data root in model.json.",
        )
    path = root / wanted.path
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path, *_beside(path)]
    return {f"data/{file.relative_to(root).as_posix()}": file for file in found}


def _beside(path: Path) -> list[Path]:
    """The mask of a single picture."""
    return sorted(p for p in path.parent.glob(f"{path.stem}_mask.*") if p.is_file())
