"""`axforge fit`: whether a network fits the AIPU, how fast boards are with it, and what would help, before anything is calibrated.

Integers are chosen by one frame of noise. They decide what the network answers, and nothing of its program but the codes in it.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from axforge.axcompiler import graphfile, target
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph, Island
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import decode
from axforge.axcompiler.quantize.choice import for_calibrate
from axforge.axcompiler.stages import BY_NAME, CalibrateConfig, QuantizeConfig, TileConfig, silent
from axforge.axruntime.pipeline.descriptor import stage_options
from axforge.axruntime.prediction.boards import Prediction, boards, predict
from axforge.axruntime.prediction.work import Work, work_of
from axforge.tasks.project.checking import share_of
from axforge.tasks.project.plan import BuildPlan

#: an image's sides are multiples of this, as most networks ask
_STEP = 32
#: shares of the time that are worth a word, of a price and of a layer
_MATTERS, _LAYER = 0.1, 0.08
#: a layer uses the array badly below this share of its products
_IDLE = 0.15


@dataclass(frozen=True)
class Trial:
    """A network compiled with noise. memory: bytes by what they are."""

    graph: Graph
    work: Work
    predictions: tuple[Prediction, ...]
    memory: dict[str, int]
    macs_a_cycle: int

    @property
    def islands(self) -> list[Island]:
        """Parts between AIPU layers that run on the CPU: head and tail run while the AIPU is at other frames."""
        where = [i for i, op in enumerate(self.graph.ops) if not isinstance(op, Island)]
        inside = self.graph.ops[where[0] : where[-1]] if where else ()
        return [op for op in inside if isinstance(op, Island)]


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
    array = aipu.array
    peak = array.rows * array.columns // array.cycles_per_vector
    return Trial(graph, work_of(graph, program, aipu), predict(graph, program, aipu), memory, peak)


def _target(plan: BuildPlan) -> str:
    return str(plan.target) if plan.own_target else plan.target.stem


def noise(model: Path) -> list[dict[str, Array]]:
    """One frame of seeded noise in 0..1 for every input of a checked model."""
    rng = np.random.default_rng(0)
    inputs = onnx.load(model, load_external_data=False).graph.input
    return [{i.name: rng.random([d.dim_value for d in i.type.tensor_type.shape.dim], dtype=np.float32) for i in inputs}]


def answer(plan: BuildPlan, fps: float = 0) -> tuple[bool, list[str]]:
    """Whether it fits, and what `axforge fit` prints. fps: frames per second that are wanted; 0: any."""
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
    return True, [*lines, *advice(found)]


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


def advice(found: Trial) -> list[str]:
    """What to change in the network, the change that helps most first. Shares are of the time on the first board."""
    if not found.predictions:
        return []
    board, work = boards()[0], found.work
    parts = (board.pace * work.cycles, board.ddr * work.ddr, board.weights * work.zeros)
    total = sum(parts)
    hints = list(_layers(found, board.pace / total))
    if parts[2] / total >= _MATTERS:
        hints.append(
            (parts[2] / total, "grouped convolutions cost as much as dense ones: use depthwise ones, or dense ones of fewer channels")
        )
    if parts[1] / total >= _MATTERS:
        hints.append(
            (
                parts[1] / total,
                "activations that do not fit a core's quarter of L2 go through DDR: make the input smaller, or reduce it earlier",
            )
        )
    lines = [f"{share:.0%} of the time: {what}" for share, what in sorted(hints, reverse=True)]
    names = "; ".join(f"'{op.name}' ({op.reason.partition(';')[0]})" for op in found.islands[:3])
    more = f" and {len(found.islands) - 3} more" if len(found.islands) > 3 else ""
    stops = (
        [f"the AIPU waits for the CPU {len(found.islands)} time{'s' * (len(found.islands) > 1)} a frame: {names}{more}"]
        if found.islands
        else []
    )
    return ["what would help:", *(f"  {line}" for line in [*stops, *lines])] if stops or lines else []


def _layers(found: Trial, price: float) -> Iterator[tuple[float, str]]:
    """Layers that take much of the time, with what they wait for. price: of a cycle, as a share of the time."""
    for layer, units in found.work.layers.items():
        unit = max(units, key=lambda u: units[u])
        share, op = units[unit] * price, found.graph.ops[layer]
        if share < _LAYER:
            continue
        used = op.multiply_adds(found.graph) / (units[unit] * found.macs_a_cycle)
        if unit == "array" and used < _IDLE:
            yield share, f"'{op.name}' uses {used:.1%} of the array: give it more channels at a lower resolution"
        elif unit in ("in", "out"):
            yield share, f"'{op.name}' waits for memory"
        elif unit == "dwpu":
            yield share, f"'{op.name}' is depthwise or pooling, which the array does not do"
