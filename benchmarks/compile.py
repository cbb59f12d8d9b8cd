"""How long compiling takes, stage by stage, and how calibration and the simulator compare with running the fp32 model.

    python benchmarks/compile.py [MODEL.onnx] [--samples 32] [--rounds 5] [--cores 4]

1. Every stage in a process of its own: wall time of the whole process, imports included.
2. Calibration against merely running the fp32 model on the same samples: one process, interleaved, ratio of medians.
3. A simulator frame against an fp32 frame in onnxruntime: one process, interleaved, ratio of medians.

Without MODEL it compiles YOLOv5s (640 x 640, seeded weights) from the data root (AXFORGE_DATA_ROOT).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from axforge.axcompiler.stages import BY_NAME, STAGES, Stage, TileConfig, silent

RUN_STAGE = """
import sys
from pathlib import Path
import numpy as np
from axforge.axcompiler import stages
from benchmarks.compile import config_of, samples_of
stage, folder, cores, count = stages.BY_NAME[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
extra = {"samples": samples_of(folder / "checked.onnx", count)} if stage.name == "calibrate" else {}
stage.run()({name: folder / name for name in stage.inputs}, config_of(stage, cores), folder, stages.silent, **extra)
"""


def config_of(stage: Stage, cores: int) -> object:
    """The stage's configuration for this benchmark."""
    return TileConfig(cores=cores) if stage.name == "tile" else stage.config()


def samples_of(checked: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Seeded noise in 0..1 for every input of the model: the time does not depend on the picture."""
    import onnx

    rng = np.random.default_rng(0)
    inputs = onnx.load(checked, load_external_data=False).graph.input
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs}
    return [{name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()} for _ in range(count)]


def interleaved(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians in seconds of both sides, run in turn, after one warm-up of each."""
    ours(), theirs()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, kept in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            side()
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def stage_table(model: Path, folder: Path, cores: int, samples: int) -> None:
    """Part 1. Leaves every artefact in `folder`."""
    (folder / "model.onnx").write_bytes(model.read_bytes())
    print(f"{'stage':<12}{'seconds':>9}   (whole process; {model.name}, {cores} cores, {samples} samples)")
    total = 0.0
    for stage in STAGES[1:]:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", RUN_STAGE, stage.name, str(folder), str(cores), str(samples)],
            check=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        seconds = time.perf_counter() - start
        total += 0 if stage.name == "calibrate" else seconds
        print(f"{stage.name:<12}{seconds:9.2f}")
    print(f"{'all but calibrate':<18}{total:.2f}")


def calibration_ratio(folder: Path, samples: int, rounds: int) -> None:
    """Part 2."""
    import onnxruntime as ort

    feeds = samples_of(folder / "checked.onnx", samples)
    stage = BY_NAME["calibrate"]
    run = stage.run()

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out:
            run({"checked.onnx": folder / "checked.onnx"}, stage.config(), Path(out), silent, samples=feeds)

    def theirs() -> None:
        session = ort.InferenceSession(str(folder / "checked.onnx"), providers=["CPUExecutionProvider"])
        for feed in feeds:
            session.run(None, feed)

    a, b = interleaved(ours, theirs, rounds)
    print(f"calibrate {a:.2f} s, fp32 runs {b:.2f} s: ratio {a / b:.2f} ({samples} samples, limit 2)")


def simulator_ratio(folder: Path, rounds: int) -> None:
    """Part 3."""
    import onnxruntime as ort

    from axforge.axruntime.engines.factory import open_engine

    (feed,) = samples_of(folder / "checked.onnx", 1)
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    simulator = open_engine("sim", folder / "model.axmodel")
    a, b = interleaved(lambda: simulator.run(feed), lambda: session.run(None, feed), rounds)
    print(f"sim {a * 1e3:.0f} ms, onnxruntime fp32 {b * 1e3:.0f} ms: ratio {a / b:.1f} (limit 10)")


def default_model(folder: Path) -> Path:
    """YOLOv5s with seeded weights, built from the data root."""
    import os

    import onnx

    from axforge.ax_models.builders import shape

    root = os.environ.get("AXFORGE_DATA_ROOT")
    if root is None:
        sys.exit("Name an ONNX file, or set AXFORGE_DATA_ROOT to the folder that has models/shape/yolov5s.shape.onnx.")
    path = folder / "yolov5s.onnx"
    onnx.save(shape.fill(Path(root) / "models/shape/yolov5s.shape.onnx"), path)
    return path


def main() -> None:
    """Print the three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stage_table(args.model or default_model(folder), folder, args.cores, args.samples)
        calibration_ratio(folder, args.samples, args.rounds)
        simulator_ratio(folder, max(args.rounds, 10))


if __name__ == "__main__":
    main()
