"""The answer behind `doit fit:MODEL`: whether a network fits the AIPU, how fast boards are with it, and what would help, before anything is
calibrated.

Integers are chosen by one frame of noise. They decide what the network answers, and nothing of its program but the codes in it.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from axforge.axcompiler import graphfile, target
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import decode
from axforge.axcompiler.quantize.choice import for_calibrate
from axforge.axcompiler.stages import BY_NAME, CalibrateConfig, QuantizeConfig, TileConfig, silent
from axforge.axcompiler.target import Target
from axforge.axruntime.pipeline.descriptor import stage_options
from axforge.axruntime.prediction.advice import advice
from axforge.axruntime.prediction.boards import Prediction, predict
from axforge.axruntime.prediction.work import Work, work_of
from axforge.tasks.project.checking import share_of
from axforge.tasks.project.plan import BuildPlan

#: an image's sides are multiples of this, as most networks ask
_STEP = 32


@dataclass(frozen=True)
class Trial:
    """A network compiled with noise. memory: bytes by what they are."""

    graph: Graph
    work: Work
    predictions: tuple[Prediction, ...]
    memory: dict[str, int]
    target: Target


def trial(plan: BuildPlan) -> Trial:
    """Compile what the stage check left behind, with noise. Raises AxforgeError where it does not fit, which says what does not."""
    with tempfile.TemporaryDirectory(prefix="axforge-fit-") as name:
        folder = Path(name)
        made = {**plan.outputs(BY_NAME["check"])}
        quantize = QuantizeConfig(**{**stage_options(plan.descriptor, "quantize"), "scheme": "mse", "effort": "fast"})
        calibrate = for_calibrate(CalibrateConfig(**stage_options(plan.descriptor, "calibrate")), quantize)
        configs = {"calibrate": calibrate, "quantize": quantize, "tile": TileConfig(cores=plan.cores, target=_target(plan))}
        for stage in (BY_NAME[name] for name in ("calibrate", "quantize", "optimize", "tile")):
            extra = {"samples": noise(made["checked.onnx"])} if stage.name == "calibrate" else {}
            stage.run()(
                {artefact: made[artefact] for artefact in stage.inputs}, configs.get(stage.name, stage.config()), folder, silent, **extra
            )
            made |= {artefact: folder / artefact for artefact in stage.outputs}
        graph = graphfile.load(made["graph.axgraph"])
        program = decode(made["program.axprogram"].read_bytes(), where="program.axprogram")
    aipu = target.load(_target(plan))
    memory = {
        "L2 at most": program.header.l2_size,
        "DDR, activations": program.header.ddr_size,
        "DDR, weights and tables": program.header.const_size,
    }
    return Trial(graph, work_of(graph, program, aipu), predict(graph, program, aipu), memory, aipu)


def _target(plan: BuildPlan) -> str:
    return str(plan.target) if plan.own_target else plan.target.stem


def noise(model: Path) -> list[dict[str, Array]]:
    """One frame of seeded noise in 0..1 for every input of a checked model."""
    rng = np.random.default_rng(0)
    inputs = onnx.load(model, load_external_data=False).graph.input
    return [{i.name: rng.random([d.dim_value for d in i.type.tensor_type.shape.dim], dtype=np.float32) for i in inputs}]


def answer(plan: BuildPlan, fps: float = 0) -> tuple[bool, list[str]]:
    """Whether it fits, and what is printed. fps: frames per second that are wanted; 0: any."""
    share = share_of(plan)
    lines = [f"{share.share:.0%} of {share.total:,} multiply-adds run on the AIPU"]
    lines += [f"  on the CPU: {one.op_type} '{one.node}', {one.multiply_adds:,} multiply-adds: {one.reason}" for one in share.elsewhere]
    try:
        found = trial(plan)
    except AxforgeError as error:
        return False, ["it does not fit: " + str(error), *lines]
    lines = [f"it fits {plan.target.stem}, on {plan.cores} core{'s' * (plan.cores > 1)}", *lines]
    lines += [f"predicted: {one}" for one in found.predictions]
    lines += [f"{what}: {size:,} bytes" for what, size in found.memory.items()]
    lines += wanted(found, fps) if fps and found.predictions else []
    return True, [*lines, *(advice(found.graph, found.work, found.target) if found.predictions else ())]


def wanted(found: Trial, fps: float) -> list[str]:
    """Whether the boards reach `fps` frames per second, and with which size of input they surely would, where one image goes in."""
    shapes = [found.graph.tensors[name].shape for name in found.graph.inputs]
    lines = []
    for one in found.predictions:
        start = f"{fps:g} frames/s on {one.board.title}:"
        if one.low >= fps:
            lines.append(f"{start} yes, at this size")
            continue
        side = math.sqrt(max(0.0, one.board.area_for(found.work, fps)))
        sides = [int(size * side) // _STEP * _STEP for size in shapes[0][2:]] if len(shapes) == 1 and len(shapes[0]) == 4 else [0]
        size = f"surely with an input of about {sides[1]} x {sides[0]}" if min(sides) else "no smaller input is sure to reach it"
        lines.append(f"{start} {'maybe' if one.high >= fps else 'no'}; {size}")
    return lines
