"""The host engine against other engines on whole networks: medians of interleaved runs in one process, and ratios.

    python benchmarks/host_engine.py --data-root FOLDER [--models yolov5s ...] [--threads 1 2] [--rounds 30]

FOLDER holds models/shape/*.shape.onnx and fill_weights.py (random weights: valid for speed, not for accuracy). Networks with a box decoder
are cut at their head convolutions for every engine. All engines take float32 and give float32.

Others: onnxruntime float32; onnxruntime int8 (its own quantize_static, QDQ, unsigned activations, signed weights per channel); OpenVINO
float32, and int8 both by importing the same QDQ model and by NNCF's post-training quantization (pip install openvino nncf); XNNPACK int8 by
LiteRT (pip install ai-edge-litert), on our own fused graph written as .tflite (`xnnpack.py`, which says what is charged to it). What is not
installed, or cannot be written, is left out and said so.

`floor` is what we promise: our time is at most 1/floor of the other's.
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from axforge.axcompiler import calibrate, check, graphfile, ir, optimize, quantize, stages
from axforge.axcompiler.ir import Graph
from axforge.axruntime.engines.host import HostEngine

Feeds = dict[str, Any]
Runner = Callable[[], object]
MODELS = ("yolov5s", "yolov8n", "resnet50", "mobilenet_v2", "efficientnet_lite0")
OURS = "aipu-host"
FLOORS = {
    "onnxruntime fp32": (3.4, 3.0, 3.3, 2.4, 2.4),
    "onnxruntime int8": (1.65, 1.7, 1.05, 1.2, 1.2),
    "openvino int8 (QDQ)": (1.5, 1.3, 0.95, 1.1, 1.05),
    "openvino int8 (NNCF)": (1.5, 1.3, 0.95, 1.1, 1.05),
    "xnnpack int8": (1.0, 1.0, 1.0, 1.0, 1.0),
}


def silent(*_: object) -> None:
    """No progress."""


def prepare(name: str, root: Path, work: Path) -> tuple[Graph, Path, Path, Feeds]:
    """The fused graph, the float32 ONNX and its int8 QDQ form (all with the same outputs), and one set of inputs."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    shape = root / "models" / "shape"
    files = {n: folder / n for n in ("model.onnx", "checked.onnx", "ranges.json", "histograms.npz", "quantized.onnx", "graph.axgraph")}
    if not files["graph.axgraph"].exists():
        subprocess.run([sys.executable, str(shape / "fill_weights.py"), name, str(files["model.onnx"])], check=True)
        check.run(files, stages.CheckConfig(), folder, silent)
        samples = [_inputs(files["checked.onnx"], seed) for seed in range(4)]
        calibrate.run(files, stages.CalibrateConfig(), folder, silent, samples=samples)
        quantize.run(files, stages.QuantizeConfig(), folder, silent)
        optimize.run(files, stages.OptimizeConfig(), folder, silent)
    graph = without_islands(graphfile.load(files["graph.axgraph"]))
    cut, int8 = folder / "cut.onnx", folder / "int8.onnx"
    if not cut.exists():
        onnx.utils.extract_model(str(files["checked.onnx"]), str(cut), list(graph.inputs), list(graph.outputs), check_model=False)
    if not int8.exists():
        _ort_quantize(cut, int8)
    return graph, cut, int8, _inputs(cut, 99)


def without_islands(graph: Graph) -> Graph:
    """The graph up to the tensors its islands read."""
    islands = [op for op in graph.ops if isinstance(op, ir.Island)]
    if not islands:
        return graph
    ends = tuple(n for op in islands for n in op.inputs if graph.tensors[n].quant)
    return replace(graph, ops=tuple(op for op in graph.ops if not isinstance(op, ir.Island)), outputs=ends)


def _inputs(path: Path, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    model = onnx.load(path, load_external_data=False)
    return {i.name: rng.random([d.dim_value for d in i.type.tensor_type.shape.dim], dtype=np.float32) for i in model.graph.input}


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


# ---------------------------------------------------------------- engines


def _onnxruntime(path: Path, threads: int, feeds: Feeds) -> Runner:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def _openvino(path: Path, threads: int, feeds: Feeds) -> Runner:
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.Core().compile_model(str(path), "CPU", config)
    request = model.create_infer_request()
    values = [feeds[i.get_any_name()] for i in model.inputs]
    return lambda: request.infer(values)


def _nncf(cut: Path, threads: int, feeds: Feeds) -> Runner:
    """OpenVINO on its own quantizer's model, made once beside `cut`."""
    import nncf
    import openvino as ov

    target = cut.with_name("nncf.xml")
    if not target.exists():
        logging.getLogger("nncf").setLevel(logging.ERROR)
        samples = nncf.Dataset([_inputs(cut, seed) for seed in range(4)])
        ov.save_model(nncf.quantize(ov.Core().read_model(cut), samples), target)
    return _openvino(target, threads, feeds)


class NotRun(Exception):
    """An engine that cannot run a network, and why."""


def _xnnpack(graph: Graph, target: Path, threads: int, feeds: Feeds, expected: Feeds) -> Runner:
    import xnnpack

    try:
        return xnnpack.runner(graph, target, threads, feeds, expected)
    except xnnpack.Unsupported as e:
        raise NotRun(str(e)) from e


def runners(graph: Graph, cut: Path, int8: Path, feeds: Feeds, threads: int) -> tuple[dict[str, Runner], list[str]]:
    """Engines by name, ours first, and what could not be had."""
    engine = HostEngine(graph, threads)
    out: dict[str, Runner] = {OURS: lambda: engine.run(feeds)}
    missing = []
    makers: dict[str, Callable[[], Runner]] = {
        "onnxruntime fp32": lambda: _onnxruntime(cut, threads, feeds),
        "onnxruntime int8": lambda: _onnxruntime(int8, threads, feeds),
        "openvino fp32": lambda: _openvino(cut, threads, feeds),
        "openvino int8 (QDQ)": lambda: _openvino(int8, threads, feeds),
        "openvino int8 (NNCF)": lambda: _nncf(cut, threads, feeds),
        "xnnpack int8": lambda: _xnnpack(graph, cut.with_name("xnnpack.tflite"), threads, feeds, engine.run(feeds)),
    }
    for name, make in makers.items():
        try:
            out[name] = make()
        except (ImportError, NotRun) as e:
            missing.append(f"{name}: {e}")
    return out, missing


def measure(engines: Mapping[str, Runner], rounds: int) -> dict[str, float]:
    """Median seconds of each engine; one run of each in turn, with a pause in which the threads of the one before fall asleep."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds + 3):
        for name, run in engines.items():
            time.sleep(0.004)
            start = time.perf_counter()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def throughput(graph: Graph, feeds: Feeds, seconds: float = 1.5) -> tuple[float, float]:
    """Frames a second of one run on two threads, and of two runs on one thread each side by side (best of three turns each)."""
    pair, single = HostEngine(graph, 2), HostEngine(graph, 1)
    best = [0.0, 0.0]
    for _ in range(3):
        for i, (engine, callers) in enumerate(((pair, 1), (single, 2))):
            best[i] = max(best[i], _frames(engine, feeds, callers, seconds))
    pair.close()
    return best[0], best[1]


def _frames(engine: HostEngine, feeds: Feeds, callers: int, seconds: float) -> float:
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


def main() -> int:
    """Prints one line an engine, model and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-root", default=os.environ.get("AXFORGE_DATA_ROOT"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--throughput", action="store_true", help="frames a second of our engine instead of latencies")
    parser.add_argument("--work", help="folder that keeps prepared models between runs")
    args = parser.parse_args()
    if not args.data_root:
        print("Say where the models are: --data-root FOLDER, or set AXFORGE_DATA_ROOT.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary)
        if args.throughput:
            print(f"{'model':20} {'1 run x 2 threads':>18} {'2 runs x 1 thread':>18} {'ratio':>6}   frames a second")
            for name in args.models:
                graph, _, _, feeds = prepare(name, Path(args.data_root), work)
                one, two = throughput(graph, feeds)
                print(f"{name:20} {one:18.1f} {two:18.1f} {two / one:6.2f}", flush=True)
            return 0
        print(f"{'model':20} {'threads':>7} {'engine':22} {'ms':>8} {'other / ours':>12} {'floor':>6}")
        for name in args.models:
            graph, cut, int8, feeds = prepare(name, Path(args.data_root), work)
            for threads in args.threads:
                engines, missing = runners(graph, cut, int8, feeds, threads)
                medians = measure(engines, args.rounds)
                for engine, seconds in medians.items():
                    ratio = seconds / medians[OURS]
                    floor = FLOORS[engine][MODELS.index(name)] if engine in FLOORS else None
                    kept = "" if floor is None else f"{floor:6.2f} {'kept' if ratio >= floor else 'MISSED'}"
                    print(f"{name:20} {threads:7} {engine:22} {seconds * 1e3:8.2f} {ratio:12.2f} {kept}", flush=True)
                for line in missing:
                    print(f"{name:20} {threads:7} not run: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
