"""The measurement behind `doit accuracy`: both models on the same pictures, the loss, and the verdict."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from axforge.tasks.compiling import shown
from axforge.tasks.project.engines import FLOAT, open_for
from axforge.tasks.project.plan import Plan
from axforge.tasks.screen.display import counting, table

if TYPE_CHECKING:
    from axforge.axruntime.evaluate.evaluate import AccuracyReport

#: Points of the primary metric that a compiled model may lose when its model.json does not say.
MAX_LOSS = 2.0


@dataclass(frozen=True)
class Verdict:
    """passed: the loss is within what is allowed. sentence: for people. loss, allowed: in points of the primary metric."""

    passed: bool
    sentence: str
    loss: float
    allowed: float


def judge(plan: Plan, pipe: str) -> Verdict:
    """Measure the fp32 model and the compiled one on `pipe`, print both, keep the figures, and judge. Raises AxforgeError."""
    from axforge.axruntime.media.sinks.json_document import write_json  # loads NumPy

    float_report = measure(plan, "onnx")
    report = float_report if pipe in FLOAT else measure(plan, pipe)
    verdict = verdict_of(plan, float_report, report)
    name = plan.model.name
    rows = [
        [metric, f"{float_report.metrics[metric]:.2f} %", f"{value:.2f} %", f"{float_report.metrics[metric] - value:+.2f}"]
        for metric, value in report.metrics.items()
    ]
    rows.append(["images/s", f"{float_report.images_per_second:.1f}", f"{report.images_per_second:.1f}", ""])
    table(f"{name} on {report.images} images of {report.dataset}", ["metric", "fp32", pipe, "loss"], rows)
    path = plan.results / f"accuracy-{pipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"model": name, "pipe": pipe, "fp32": float_report.as_json(), "compiled": report.as_json()}
    write_json(path, document | {"loss": verdict.loss, "allowed": verdict.allowed, "passed": verdict.passed})
    print(f"{verdict.sentence}\nresults: {shown(path, plan)}", flush=True)
    return verdict


def measure(plan: Plan, pipe: str) -> "AccuracyReport":
    """One model on its dataset, here or in parts on a cluster."""
    if plan.cluster:
        from axforge.tasks.cluster.accuracy import measure_there  # loads NumPy

        return measure_there(plan, pipe)
    from axforge.axruntime.evaluate.datasets import open_dataset  # loads NumPy
    from axforge.axruntime.evaluate.evaluate import evaluate  # loads NumPy
    from axforge.axruntime.pipeline.pipeline import Pipeline  # loads NumPy

    dataset = open_dataset(plan.descriptor, plan.settings.data_root)
    engine = open_for(plan, pipe)
    try:
        with counting(f"Measuring {plan.model.name} on {pipe}") as progress:
            return evaluate(Pipeline(plan.descriptor, engine), dataset, limit=plan.options.frames or None, progress=progress)
    finally:
        engine.close()


def verdict_of(plan: Plan, float_report: "AccuracyReport", report: "AccuracyReport") -> Verdict:
    """Whether the compiled model is as good as model.json asks (`dataset.max_loss`, in points)."""
    dataset = plan.descriptor.dataset
    allowed = MAX_LOSS if dataset is None or dataset.max_loss is None else dataset.max_loss
    loss = float_report.value - report.value
    passed = loss <= allowed
    word = "passed" if passed else "FAILED"
    if report is float_report:
        return Verdict(True, f"{plan.model.name}: only the fp32 model was measured: {report.primary} {report.value:.2f} %.", 0.0, allowed)
    figures = f"{report.primary} {report.value:.2f} % against {float_report.value:.2f} % in fp32"
    sentence = f"{plan.model.name}: {word}: {figures}, a loss of {loss:.2f} points; {allowed:.2f} are allowed."
    return Verdict(passed, sentence, loss, allowed)
