"""The host engine against other engines on whole networks: each in a process of its own, by turns.

    python benchmarks/host_engine.py --data-root FOLDER [--models yolov5s,resnet50] [--threads 1,2] [--seconds 5]
                                     [--isa avx2] [--peer-python PROGRAM] [--engines "openvino int8 (QDQ)"]

FOLDER holds models/shape/*.shape.onnx and fill_weights.py (random weights: valid for speed, not for accuracy). Networks with a box decoder
are cut at their head convolutions for every engine. All engines take float32 and give float32.

Others: onnxruntime float32; onnxruntime int8 (its own quantize_static, QDQ, unsigned activations, signed weights per channel); OpenVINO
float32, and int8 both by importing the same QDQ model and by NNCF's post-training quantization (pip install openvino nncf); XNNPACK int8 by
LiteRT (pip install ai-edge-litert), on our own fused graph written as .tflite (`xnnpack.py`, which says what is charged to it). What is not
installed, or cannot be written, is left out and said so.

For each engine: the instructions that it may use, the fastest frame, the median, and the other's median divided by ours. `floor` is what
we promise of that ratio. --isa restricts us (AXFORGE_HOST_CPU) and OpenVINO (ONEDNN_MAX_CPU_ISA) to the same instructions; the others take
all that the CPU has and are left out then. --peer-python is the Python that has the other engines, where this one has not (it needs msgspec
and numpy beside them).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler import calibrate, check, graphfile, ir, optimize, quantize, stages
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph
from axforge.axruntime.bench.document import EngineFigures
from axforge.axruntime.bench.measure import EngineProcess, run_by_turns, this_computer
from axforge.axruntime.bench.messages import Load
from axforge.axruntime.bench.worker import random_feeds
from axforge.axruntime.engines.host import HostEngine
from axforge.axruntime.engines.host.codegen.features import PATHS, cpu_flags

Feeds = Mapping[str, NDArray[np.generic]]
MODELS = ("yolov5s", "yolov8n", "resnet50", "mobilenet_v2", "efficientnet_lite0")
OURS = "aipu-host"
#: of the random inputs
SEED = 99
FLOORS = {
    "onnxruntime fp32": (3.4, 3.0, 3.3, 2.4, 2.4),
    "onnxruntime int8": (1.65, 1.7, 1.05, 1.2, 1.2),
    "openvino int8 (QDQ)": (1.5, 1.3, 0.95, 1.1, 1.05),
    "openvino int8 (NNCF)": (1.5, 1.3, 0.95, 1.1, 1.05),
    "xnnpack int8": (1.0, 1.0, 1.0, 1.0, 1.0),
}
#: of --isa: our code path -> what OpenVINO calls the same instructions
ISAS = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512vnni": "AVX512_CORE_VNNI"}
#: floors against OpenVINO's int8 with such a restriction
RESTRICTED_FLOOR = 1.1


def silent(*_: object) -> None:
    """No progress."""


def prepare(name: str, root: Path, work: Path) -> Path:
    """The folder with a network in all its forms, which have the same inputs and outputs.

    cut.axgraph: the fused graph; cut.onnx: float32; int8.onnx: float32 quantized by onnxruntime, in QDQ form.
    """
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    _quantized(name, root, folder)
    graph = without_islands(graphfile.load(folder / "graph.axgraph"))
    graphfile.save(graph, folder / "cut.axgraph")
    cut, int8 = folder / "cut.onnx", folder / "int8.onnx"
    if not cut.exists():
        onnx.utils.extract_model(str(folder / "checked.onnx"), str(cut), list(graph.inputs), list(graph.outputs), check_model=False)
    if not int8.exists():
        _ort_quantize(cut, int8)
    return folder


def _quantized(name: str, root: Path, folder: Path) -> None:
    """Makes graph.axgraph, the network as the compiler quantizes it, unless it is there."""
    shape = root / "models" / "shape"
    names = ("model.onnx", "checked.onnx", *stages.CALIBRATION, "quantized.onnx", "graph.axgraph")
    files = {n: folder / n for n in names}
    if files["graph.axgraph"].exists():
        return
    if not files["model.onnx"].exists():
        subprocess.run([sys.executable, str(shape / "fill_weights.py"), name, str(files["model.onnx"])], check=True)
    check.run(files, stages.CheckConfig(), folder, silent)
    samples = [_inputs(files["checked.onnx"], seed) for seed in range(4)]
    calibrate.run(files, stages.CalibrateConfig(), folder, silent, samples=samples)
    quantize.run(files, stages.QuantizeConfig(effort="fast"), folder, silent)
    optimize.run(files, stages.OptimizeConfig(), folder, silent)


def without_islands(graph: Graph) -> Graph:
    """The graph up to the tensors its islands read."""
    islands = [op for op in graph.ops if isinstance(op, ir.Island)]
    if not islands:
        return graph
    ends = tuple(n for op in islands for n in op.inputs if graph.tensors[n].quant)
    return replace(graph, ops=tuple(op for op in graph.ops if not isinstance(op, ir.Island)), outputs=ends)


def _inputs(path: Path, seed: int) -> Feeds:
    types = {i.name: i.type.tensor_type for i in onnx.load(path, load_external_data=False).graph.input}
    shapes = {name: tuple(d.dim_value for d in t.shape.dim) for name, t in types.items()}
    dtypes = {name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)).name for name, t in types.items()}
    return random_feeds({name: (shape, dtypes[name]) for name, shape in shapes.items()}, {}, seed)


def _ort_quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [_inputs(source, seed) for seed in range(4)]

        def get_next(self) -> Feeds | None:
            return self.left.pop() if self.left else None

    quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


#: name in the table -> (name in `engine_worker.py`, file of the prepared model)
ENGINES = {
    OURS: (OURS, "cut.axgraph"),
    "onnxruntime fp32": ("onnxruntime", "cut.onnx"),
    "onnxruntime int8": ("onnxruntime", "int8.onnx"),
    "openvino fp32": ("openvino", "cut.onnx"),
    "openvino int8 (QDQ)": ("openvino", "int8.onnx"),
    "openvino int8 (NNCF)": ("openvino-nncf", "cut.onnx"),
    "xnnpack int8": ("xnnpack", "cut.axgraph"),
}
WORKER = (str(Path(__file__).with_name("engine_worker.py")),)
#: variables by which an engine is kept from using all that the CPU has
LIMITS = ("AXFORGE_HOST_CPU", "ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA", "DNNL_MAX_CPU_ISA")


def measure(folder: Path, threads: int, seconds: float, engines: Sequence[str], python: str) -> tuple[dict[str, EngineFigures], list[str]]:
    """Figures of our engine and of those named, and a sentence for each one that could not be measured.

    folder: of the prepared network, see `prepare`. seconds: that each engine runs. python: for the others.
    """
    processes: dict[str, EngineProcess] = {}
    missing: list[str] = []
    with ExitStack() as stack:
        for name in (OURS, *engines):
            engine, file = ENGINES[name]
            load = Load(engine=engine, file=str(folder / file), threads=threads, seed=SEED)
            process = stack.enter_context(EngineProcess(name, load, WORKER, sys.executable if name == OURS else python))
            try:
                process.start()
                processes[name] = process
            except AxforgeError as e:
                if name == OURS:
                    raise
                missing.append(f"{name}: {e.what}")
        run_by_turns(list(processes.values()), seconds)
        return {name: process.figures() for name, process in processes.items()}, missing


def allowed() -> str:
    """A sentence that says which instruction sets the engines may use."""
    flags = sorted({flag for path in PATHS for flag in path.flags} & cpu_flags())
    set_ = [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]
    return f"The CPU has {', '.join(flags) or 'nothing that we choose by'}. Limits: {', '.join(set_) or 'none'}."


def allowed_to(engine: str, figure: EngineFigures) -> str:
    """The instructions that an engine uses (ours) or may use."""
    if engine == OURS:
        return figure.code_path
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "all") if engine.startswith("openvino") else "all"


def floor_of(engine: str, name: str) -> float | None:
    """What we promise of an engine's time divided by ours, for a network."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA"):
        return RESTRICTED_FLOOR if engine.startswith("openvino int8") else None
    return FLOORS[engine][MODELS.index(name)] if engine in FLOORS else None


def lines(name: str, figures: Mapping[str, EngineFigures]) -> list[str]:
    """The rows of the table for one network and number of threads."""
    ours = figures[OURS].latency
    out = []
    for engine, figure in figures.items():
        times = figure.latency
        ratio = times.p50_ms / ours.p50_ms
        floor = floor_of(engine, name)
        kept = "" if floor is None else f"{floor:6.2f} {'kept' if ratio >= floor else 'MISSED'}"
        isa = allowed_to(engine, figure)
        out.append(
            f"{name:20} {figure.threads:7} {engine:20} {isa:16} {times.min_ms:8.2f} {times.p50_ms:9.2f} {ratio:12.2f} {kept}".rstrip()
        )
    return out


def throughput(graph: Graph, seconds: float = 1.5) -> tuple[float, float]:
    """Frames a second of one run on two threads, and of two runs on one thread each side by side (best of three turns each)."""
    pair, single = HostEngine(graph, 2), HostEngine(graph, 1)
    feeds = random_feeds(pair.inputs, {}, SEED)
    best = [0.0, 0.0]
    for _ in range(3):
        for i, (engine, callers) in enumerate(((pair, 1), (single, 2))):
            best[i] = max(best[i], _frames(engine, feeds, callers, seconds))
    pair.close()
    return best[0], best[1]


def _frames(engine: HostEngine, feeds: Mapping[str, NDArray[np.generic]], callers: int, seconds: float) -> float:
    counts = [0] * callers
    end = time.perf_counter() + seconds

    def work(i: int) -> None:
        while time.perf_counter() < end:
            engine.run(feeds)
            counts[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(counts) / seconds


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is not one of {', '.join(MODELS)}")
    return names


def _engines(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ENGINES or name == OURS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is not one of {', '.join(n for n in ENGINES if n != OURS)}")
    return names


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError("a number of threads is at least 1")
    return counts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-root", default=os.environ.get("AXFORGE_DATA_ROOT"))
    parser.add_argument("--models", type=_names, default=list(MODELS), metavar="NAME,...", help=", ".join(MODELS))
    parser.add_argument("--threads", type=_counts, default=[1, 2], metavar="N,...", help="numbers of threads (1,2)")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each engine runs (5)")
    parser.add_argument("--isa", choices=tuple(ISAS), help="restricts us and OpenVINO to these instructions, and leaves the others out")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PROGRAM", help="Python that has the other engines (this one)")
    parser.add_argument("--engines", type=_engines, metavar="NAME,...", help=", ".join(n for n in ENGINES if n != OURS))
    parser.add_argument("--throughput", action="store_true", help="frames a second of our engine instead of latencies")
    parser.add_argument("--work", help="folder that keeps prepared models between runs")
    return parser


def _others(isa: str | None) -> list[str]:
    """The engines to compare with: all others, or those that can be restricted to `isa`."""
    return [name for name in ENGINES if name != OURS and (isa is None or name.startswith("openvino int8"))]


def compare(
    models: Sequence[str], threads: Sequence[int], seconds: float, root: Path, work: Path, engines: Sequence[str], python: str
) -> None:
    """Prints the table of latencies, row by row."""
    print(f"{this_computer().cpu}. {allowed()}")
    print(f"{'model':20} {'threads':>7} {'engine':20} {'instructions':16} {'min ms':>8} {'median ms':>9} {'other / ours':>12} {'floor':>6}")
    for name in models:
        folder = prepare(name, root, work)
        for count in threads:
            figures, missing = measure(folder, count, seconds, engines, python)
            print("\n".join([*lines(name, figures), *(f"{name:20} {count:7} not run: {why}" for why in missing)]), flush=True)


def compare_throughput(models: Sequence[str], root: Path, work: Path) -> None:
    """Prints how many frames a second our engine runs by one caller on two threads, and by two callers."""
    print(f"{'model':20} {'1 run x 2 threads':>18} {'2 runs x 1 thread':>18} {'ratio':>6}   frames a second")
    for name in models:
        one, two = throughput(graphfile.load(prepare(name, root, work) / "cut.axgraph"))
        print(f"{name:20} {one:18.1f} {two:18.1f} {two / one:6.2f}", flush=True)


def main() -> int:
    """Runs the command; returns the exit status."""
    args = _parser().parse_args()
    if not args.data_root:
        print("Say where the models are: --data-root FOLDER, or set AXFORGE_DATA_ROOT.", file=sys.stderr)
        return 1
    if args.isa:
        os.environ.update(AXFORGE_HOST_CPU=args.isa, ONEDNN_MAX_CPU_ISA=ISAS[args.isa])
    with tempfile.TemporaryDirectory() as temporary:
        root, work = Path(args.data_root), Path(args.work or temporary)
        if args.throughput:
            compare_throughput(args.models, root, work)
        else:
            compare(args.models, args.threads, args.seconds, root, work, args.engines or _others(args.isa), args.peer_python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
