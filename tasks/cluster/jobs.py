"""Jobs for the workers: what is asked, and a parcel with the files that it needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axforge.axcompiler.stages import BY_NAME, STAGES
from axforge.tasks.cluster import parcel
from axforge.tasks.cluster.identity import identity
from axforge.tasks.cluster.messages import CompileJob, MeasureJob, SampleFile
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.stages.execution import open_cache
from axforge.tasks.stages.inputs import chosen_samples

_ORDER = [stage.name for stage in STAGES]


def compile_job(plan: BuildPlan, last: str) -> CompileJob:
    """A model up to stage `last`: its descriptor and options, and a parcel with the network and the samples."""
    files: dict[str, Path] = {"model.onnx": plan.outputs(BY_NAME["fetch"])["model.onnx"]}
    samples: tuple[SampleFile, ...] = ()
    if _ORDER.index(last) >= _ORDER.index("calibrate"):
        chosen = chosen_samples(plan)
        places = {path: f"samples/{i}{path.suffix}" for i, path in enumerate(chosen.files())}
        files |= {place: path for path, place in places.items()}
        samples = tuple(SampleFile(item.name, item.variant, places[Path(item.path)]) for item in chosen.items)
    if plan.own_target:
        files[f"models/{plan.model.name}/{plan.own_target}"] = plan.target
    return CompileJob(
        **_common(plan, files),
        last=last,
        cores=plan.cores,
        num_cal_images=plan.options.num_cal_images,
        effort=plan.options.effort,
        force=plan.options.force,
        samples=samples,
    )


def measure_job(plan: BuildPlan, pipe: str, network: Path, limit: int | None, files: Mapping[str, Path]) -> MeasureJob:
    """A model's whole data set on one engine; parts of it are made from this."""
    return MeasureJob(**_common(plan, {network.name: network, **files}), pipe=pipe, network=network.name, limit=limit)


def _common(plan: BuildPlan, files: Mapping[str, Path]) -> dict[str, Any]:
    """What every job says: the model, its files, and which versions it is for."""
    labels = plan.descriptor.labels
    described = {**plan.model.raw, "labels": list(labels)} if labels else plan.model.raw
    return {
        "model": plan.model.name,
        "descriptor": json.dumps(described),
        "files": parcel.send(open_cache(plan), files, plan.model.name),
        "versions": identity(),
    }
