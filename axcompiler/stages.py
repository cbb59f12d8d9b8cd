"""The seven stages: their names, artefacts and configurations. Light to import (no NumPy, no ONNX).

Each stage is a package `axcompiler.<name>` with a function

    run(inputs: Mapping[str, Path], config: <its Config>, out: Path, progress: Progress, **extra) -> None

that reads the artefacts in `inputs` (by file name), and writes exactly its outputs into the folder `out`.
The same inputs give the same bytes. `extra` is stage-specific and never decides bytes that the key does not name.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from axforge.axcompiler.errors import CompileError

#: progress(done, total, note): called from time to time by a stage; done <= total, in any unit.
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """No-op progress callback."""


Scalar = bool | int | float | str
#: the value of one option of a quantization algorithm
Option = Scalar | dict[str, Scalar]
#: the options of a quantization algorithm; True switches it on as it is, False off
AlgorithmOptions = bool | dict[str, Option]


@dataclass(frozen=True)
class FetchConfig:
    """Nothing of the source decides bytes but the source itself, which the key names by content."""


@dataclass(frozen=True)
class CheckConfig:
    """input_shapes: pinned shapes by input name, for models with dynamic ones ({"images": (1, 3, 640, 640)}).

    cut_head, cut_tail: leave the pre- and post-processing of the graph to the host.
    end_nodes: names of tensors to cut at, instead of finding them.
    float_state: a network that carries a recurrent state from call to call stays in float32.
    """

    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    cut_head: bool = True
    cut_tail: bool = True
    end_nodes: tuple[str, ...] = ()
    float_state: bool = True


@dataclass(frozen=True)
class CalibrateConfig:
    """bins: of each histogram. (Which samples and how they are pre-processed is an input of the stage, not here.)

    split_channels: whether to split channels with dissimilar ranges before a depthwise convolution into groups with a scale each.
    algorithms: those of QuantizeConfig that rewrite the float model. statistics: names of those that are collected besides the standard
    ones. Both follow from QuantizeConfig (`quantize.choice.for_calibrate`), so that the code of algorithms which act later is not asked.
    """

    bins: int = 2048
    split_channels: bool = True
    algorithms: dict[str, AlgorithmOptions] = field(default_factory=dict)
    statistics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises CompileError for a number of bins that no histogram can have, or that would fill the memory."""
        if not 2 <= self.bins <= 1 << 20:
            fix = "Give 2 to 1,048,576; without it, 2,048 are used."
            raise CompileError(f"a histogram cannot have {self.bins} bins", where="compile.calibrate.bins", fix=fix)


@dataclass(frozen=True)
class QuantizeConfig:
    """scheme: how the range of an activation is chosen: 'effect', among all schemes by what they do to the outputs of the network, or
    one scheme for all: 'minmax', 'percentile', 'mse', 'entropy' or another file of quantize/schemes.

    effort: of 'effect': 'fast' tries nothing and takes 'mse'; 'normal' runs the network 0.6 times for each calibration sample, 'best' 20.
    percentile: share of values kept, for that scheme. exclude: ONNX node names to leave in float32 (islands).
    algorithms: by the name of a file of quantize/algorithms or rewrites, its options, or whether it is on.
    """

    scheme: str = "effect"
    percentile: float = 99.999
    exclude: tuple[str, ...] = ()
    algorithms: dict[str, AlgorithmOptions] = field(default_factory=dict)
    effort: str = "normal"


@dataclass(frozen=True)
class OptimizeConfig:
    """No choices yet."""


@dataclass(frozen=True)
class TileConfig:
    """cores: 1 to 4 AIPU cores. target: name of a file in axcompiler/targets, or a path."""

    cores: int = 1
    target: str = "metis"


@dataclass(frozen=True)
class PackConfig:
    """name: of the model, as it is written into the file."""

    name: str = "model"


@dataclass(frozen=True)
class Stage:
    """One stage: the package `axcompiler.<name>`.

    inputs, outputs: file names of artefacts. libraries: distributions whose version decides output bytes. That the stage's own code
    decides them too, whoever keeps results finds out from its imports (`tasks.stages.code`).
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    libraries: tuple[str, ...]
    config: type[Any]

    def run(self) -> Callable[..., None]:
        """The stage's function (imports its package). Raises AxforgeError where the model needs more memory or depth than there is."""
        function: Callable[..., None] = importlib.import_module(f"{__package__}.{self.name}").run
        return partial(_within_limits, self.name, function)


def _within_limits(name: str, function: Callable[..., None], *arguments: Any, **extra: Any) -> None:
    """Calls a stage. Where memory or the stack ends depends on the model and on the machine, so it is no defect and gets a sentence."""
    try:
        function(*arguments, **extra)
    except (MemoryError, RecursionError) as e:
        needs = "more memory than there is" if isinstance(e, MemoryError) else "deeper nesting than is supported"
        fix = "Use a machine with more memory, or a smaller model." if isinstance(e, MemoryError) else "Export the model again."
        raise CompileError(f"the model needs {needs}", where=f"stage {name}", fix=fix) from e


_ONNX, _GRAPH = ("onnx", "onnxruntime", "numpy", "msgspec"), ("numpy", "msgspec")

#: what calibrate writes
CALIBRATION = ("ranges.json", "histograms.npz", "samples.npz")

STAGES: tuple[Stage, ...] = (
    Stage("fetch", (), ("model.onnx",), (), FetchConfig),
    Stage("check", ("model.onnx",), ("checked.onnx", "support.json"), _ONNX, CheckConfig),
    Stage("calibrate", ("checked.onnx",), CALIBRATION, _ONNX, CalibrateConfig),
    Stage("quantize", ("checked.onnx", *CALIBRATION), ("quantized.onnx", "quantization.json"), _ONNX, QuantizeConfig),
    Stage("optimize", ("quantized.onnx",), ("graph.axgraph",), _ONNX, OptimizeConfig),
    Stage("tile", ("graph.axgraph",), ("program.axprogram", "schedule.json"), _GRAPH, TileConfig),
    Stage("pack", ("graph.axgraph", "program.axprogram", "schedule.json"), ("model.axmodel", "manifest.json"), _GRAPH, PackConfig),
)
BY_NAME = {stage.name: stage for stage in STAGES}
