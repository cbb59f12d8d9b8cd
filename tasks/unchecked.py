"""A build whose sources are away: it cannot be checked whether it is current, and it runs nevertheless."""

import json
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.axruntime.pipeline.models import FILE
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.ready import Ready, is_full

#: Keys of model.json that decide the compiled model.
_DECIDING = ("source", "preprocessing", "calibration", "compile")


def build_to_run(plan: BuildPlan) -> tuple[Ready, str] | None:
    """The build of a model whose sources are away, and why it cannot be checked whether it is current; None to build it as always."""
    options, folder = plan.options, plan.published
    asked = options.force or options.onnx or options.num_cal_images or options.effort
    if plan.own or asked or not is_full(folder):
        return None
    reason = _away(plan)
    if not reason or _is_stale(plan):
        return None
    return Ready(plan.model, options, plan.settings, plan.channel, compiled=folder), reason


def _away(plan: BuildPlan) -> str:
    """The source that is away, as words for a sentence; '' when all are there. Only looks, unless it must fetch."""
    from axforge.tasks.stages.execution import obtain_stage  # opens the cache
    from axforge.tasks.stages.inputs import chosen_samples  # loads msgspec

    source = plan.descriptor.source
    fetched = plan.outputs(BY_NAME["fetch"])["model.onnx"].is_file()
    files = () if source is None else source.reads if source.file is None else (source.file,)
    root = plan.settings.data_root
    for name in files:
        if root is None and not Path(name).is_absolute():
            return f"{name} (no data root is set)"
        if not ((root or Path()) / name).is_file():
            return str((root or Path()) / name)
    if source is None:
        return "its ONNX (model.json names none)"
    try:
        if not fetched and source.file is None:
            obtain_stage(plan, BY_NAME["fetch"])
    except (AxforgeError, OSError) as error:
        return f"{source.url or source.builder} ({_first_line(error)})"
    try:
        chosen_samples(plan)
    except (AxforgeError, OSError):
        named = plan.descriptor.calibration
        return f"its calibration data {(root or Path()) / named.path if named else ''}".rstrip()
    return ""


def _first_line(error: Exception) -> str:
    text = error.what if isinstance(error, AxforgeError) else str(error)
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _is_stale(plan: BuildPlan) -> bool:
    """Whether model.json, which is here, says that the build is of other sources or options than it asks for now."""
    try:
        before = json.loads((plan.published / FILE).read_bytes())
    except (OSError, ValueError):
        return False  # said when it is opened
    return isinstance(before, dict) and any(before.get(key) != plan.model.raw.get(key) for key in _DECIDING)
