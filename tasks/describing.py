"""One model, for people: where it comes from, its pipeline, and what is built of it."""

from collections.abc import Iterator

from axforge.axcompiler.stages import STAGES
from axforge.tasks.compiling import shown
from axforge.tasks.listing import compiled_for, weights_of
from axforge.tasks.project import zoo
from axforge.tasks.project.command_line import ModelOptions
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import Settings


def lines(name: str, settings: Settings, cores: int = 0) -> list[str]:
    """What `axforge info` and `doit info MODEL` print. Raises AxforgeError for a model nobody knows, or whose model.json is wrong."""
    plan = BuildPlan(zoo.find(name, settings), ModelOptions(cores=cores), settings)
    rows = [(key, value) for key, value in _rows(plan) if value]
    width = max(len(key) for key, _ in rows)
    return [name, *(f"  {key:{width}}  {value}" for key, value in rows)]


def _rows(plan: BuildPlan) -> Iterator[tuple[str, str]]:
    descriptor = plan.descriptor
    yield "description", descriptor.description
    yield "task", descriptor.task or ""
    yield "licence", descriptor.license
    yield "described in", shown(plan.model.path, plan)
    weights, ready = weights_of(plan.model.raw.get("source"), plan.settings)
    yield "weights", weights if ready else f"{weights} (needed to compile)"
    yield "before", ", ".join(step.tag() for step in descriptor.preprocessing)
    yield "after", ", ".join(step.tag() for step in descriptor.postprocessing) or "nothing: the outputs are the result"
    names = descriptor.label_names
    yield "labels", f"{len(names)}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else ""
    yield (
        "calibrated on",
        f"{descriptor.calibration.count} samples of {descriptor.calibration.path}"
        if descriptor.calibration
        else "photos that packages ship",
    )
    yield "measured on", descriptor.dataset.path if descriptor.dataset else ""
    yield "reference", "; ".join(f"{figure.metric} {figure.value} % ({figure.source})" for figure in descriptor.reference)
    built = compiled_for(plan.model, plan.settings)
    yield "compiled for", ", ".join(f"{cores} core{'s' * (cores > 1)}" for cores in built) or "nothing yet"
    yield "compiled model", f"{shown(plan.axmodel, plan)} ({plan.axmodel.stat().st_size:,} bytes)" if plan.axmodel.is_file() else ""
    done = [stage.name for stage in STAGES if all(path.is_file() for path in plan.outputs(stage).values())]
    yield "stages built", ", ".join(done)
