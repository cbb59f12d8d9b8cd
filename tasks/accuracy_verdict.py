"""The measurement behind `doit accuracy`: both models on the same pictures, the loss, and the verdict."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from axforge.tasks.compiling import shown
from axforge.tasks.project.engines import FLOAT, open_for, pipeline_for
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.screen.display import counting, table

if TYPE_CHECKING:
    from axforge.axruntime.evaluate.evaluate import AccuracyReport

#: Points of the primary metric that a compiled model may lose when its model.json does not say.
MAX_LOSS = 2.0
#: A primary metric of the float model, in per cent, below which the pipeline is wrong and int8 is not the question.
LEAST_FLOAT = 1.0


@dataclass(frozen=True)
class Verdict:
    """word: "passed", "FAILED" (a significant loss above what is allowed, or a float model that knows nothing) or "undecided".

    sentence: for people.

    loss, allowed, interval (of the loss): in points of the primary metric.
    """

    word: str
    sentence: str
    loss: float
    allowed: float
    interval: tuple[float, float] = (0.0, 0.0)

    @property
    def passed(self) -> bool:
        """Whether the loss is within what is allowed, as far as the samples can tell."""
        return self.word == "passed"

    @property
    def failed(self) -> bool:
        """Whether the model is worse than allowed, and not by chance."""
        return self.word == "FAILED"


def judge(plan: BuildPlan, pipe: str, allowed: float | None = None) -> Verdict:
    """Measure the fp32 model and the compiled one on `pipe`, print both, keep the figures, and judge. Raises AxforgeError.

    allowed: points that may be lost, instead of what model.json says.
    """
    from axforge.axruntime.media.sinks.json_document import write_json  # loads NumPy

    float_report = measure(plan, "onnx")
    report = float_report if pipe in FLOAT else measure(plan, pipe)
    verdict = verdict_of(plan, float_report, report, allowed)
    agreement = {} if report is float_report else report.metric.agreement(float_report.metric)
    name = plan.model.name
    rows = [
        [metric, _with_interval(float_report, metric), _with_interval(report, metric), _loss(float_report, report, metric)]
        for metric in report.metrics
    ]
    rows += [[figure, "", f"{value:.2f} %", ""] for figure, value in agreement.items()]
    rows.append(["images/s", f"{float_report.images_per_second:.1f}", f"{report.images_per_second:.1f}", ""])
    title = f"{name} on {report.images} images of {report.dataset}, with 95 % confidence intervals"
    table(title, ["metric", "fp32", pipe, "loss"], rows)
    path = plan.results / f"accuracy-{pipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"model": name, "pipe": pipe, "fp32": float_report.as_json(), "compiled": report.as_json()}
    write_json(
        path,
        document
        | {
            "agreement": agreement,
            "loss": verdict.loss,
            "loss_interval": verdict.interval,
            "allowed": verdict.allowed,
            "verdict": verdict.word.lower(),
            "passed": verdict.passed,
        },
    )
    print(f"{verdict.sentence}\nresults: {shown(path, plan)}", flush=True)
    return verdict


def measure(plan: BuildPlan, pipe: str) -> "AccuracyReport":
    """One model on its dataset, here or in parts on a cluster."""
    if plan.cluster:
        from axforge.tasks.cluster.accuracy import measure_there  # loads NumPy

        return measure_there(plan, pipe)
    from axforge.axruntime.evaluate.datasets import open_dataset  # loads NumPy
    from axforge.axruntime.evaluate.evaluate import evaluate  # loads NumPy

    dataset = open_dataset(plan.descriptor, plan.settings.data_root)
    engine = open_for(plan, pipe)
    try:
        with ExitStack() as opened, counting(f"Measuring {plan.model.name} on {pipe}") as progress:
            pipeline = pipeline_for(plan, engine, pipe, opened)
            return evaluate(pipeline, dataset, limit=plan.options.frames or None, progress=progress)
    finally:
        engine.close()


def verdict_of(plan: BuildPlan, float_report: "AccuracyReport", report: "AccuracyReport", allowed: float | None = None) -> Verdict:
    """Whether the compiled model is as good as asked: by `allowed`, else by model.json (`dataset.max_loss`), in points."""
    dataset = plan.descriptor.dataset
    if allowed is None:
        allowed = MAX_LOSS if dataset is None or dataset.max_loss is None else dataset.max_loss
    from axforge.axruntime.evaluate.confidence import FEWEST  # loads NumPy

    chance = max(LEAST_FLOAT, float_report.metric.guessing())
    if float_report.images >= FEWEST and float_report.value <= chance:
        figures = f"{float_report.primary} of the fp32 model is {float_report.value:.2f} %, and chance gives {chance:.2f} %"
        cause = "Its pre-processing, decoder, labels or class_map in model.json do not fit the network or the dataset; int8 was not judged."
        return Verdict("FAILED", f"{plan.model.name}: FAILED: {figures}. {cause}", 0.0, allowed)
    if report is float_report:
        sentence = f"{plan.model.name}: only the fp32 model was measured: {report.primary} {report.value:.2f} %."
        return Verdict("passed", sentence, 0.0, allowed)
    loss = report.spread.loss_from(float_report.spread, report.primary)
    if report.images < FEWEST:
        word, why = "undecided", f" {report.images} image{'s prove' if report.images > 1 else ' proves'} nothing: use {FEWEST} at least."
    elif loss.points <= allowed:
        word, why = "passed", ""
    else:
        word, why = ("FAILED", "") if loss.significant else ("undecided", " The loss may be chance: use more images.")
    between = f"{loss.interval.low:.2f} to {loss.interval.high:.2f}"
    figures = f"{report.primary} {report.value:.2f} % against {float_report.value:.2f} % in fp32"
    sentence = f"{plan.model.name}: {word}: {figures}, a loss of {loss.points:.2f} points ({between}); {allowed:.2f} are allowed.{why}"
    return Verdict(word, sentence, loss.points, allowed, (loss.interval.low, loss.interval.high))


def _with_interval(report: "AccuracyReport", metric: str) -> str:
    interval = report.spread.interval(metric)
    return f"{report.metrics[metric]:.2f} % ({interval.low:.1f} to {interval.high:.1f})"


def _loss(reference: "AccuracyReport", report: "AccuracyReport", metric: str) -> str:
    loss = report.spread.loss_from(reference.spread, metric)
    return f"{loss.points:+.2f} ({loss.interval.low:+.1f} to {loss.interval.high:+.1f})"
