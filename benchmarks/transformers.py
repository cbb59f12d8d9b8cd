"""The host engine against other engines on transformers: each in a process of its own, by turns.

    python benchmarks/transformers.py --data-root FOLDER [--models deit_small,swin_t] [--onnx minilm_256=FILE] [--threads 1,2]
                                      [--seconds 5] [--peer-python PROGRAM] [--engines "onnxruntime fp32"] [--work FOLDER]

FOLDER holds models/shape/*.shape.onnx and fill_weights.py (random weights: valid for speed, not for accuracy). --onnx adds networks of
your own, with fixed shapes; integer inputs get zeros and ones. A network is cut before the first tensor that we compute in float32, for
every engine; how much that is can be read from the share of its multiply-adds that is printed.

Others: onnxruntime float32, its static int8 (QDQ) and its dynamic int8; OpenVINO float32, and int8 by importing the QDQ model. The columns
are those of `host_engine.py`. `floor` is what we aim at: 2.5 against float32, 1.3 against int8.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import host_engine
from host_engine import ENGINES, OURS

from axforge.axcompiler import graphfile
from axforge.axruntime.bench.document import EngineFigures
from axforge.axruntime.bench.measure import this_computer

MODELS = ("deit_small", "vit_b_16", "swin_t", "detr_r50", "whisper_tiny_encoder")
DYNAMIC = "onnxruntime dynamic"
ENGINES[DYNAMIC] = ("onnxruntime", "dynamic.onnx")
OTHERS = ("onnxruntime fp32", "onnxruntime int8", DYNAMIC, "openvino fp32", "openvino int8 (QDQ)")


def prepare(name: str, root: Path, work: Path, given: Mapping[str, Path]) -> Path:
    """The folder with a network in all its forms. given: files of networks by name."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    if name in given and not (folder / "model.onnx").exists():
        shutil.copyfile(given[name], folder / "model.onnx")
    host_engine.prepare(name, root, work)
    target = folder / "dynamic.onnx"
    if not target.exists():
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(folder / "cut.onnx", target, per_channel=True)
    return folder


def share(folder: Path) -> float:
    """The share of the network's multiply-adds that is measured: what we compute in int8, before the first island."""
    whole = graphfile.load(folder / "graph.axgraph")
    cut = graphfile.load(folder / "cut.axgraph")
    done, all_ = (sum(op.multiply_adds(graph) for op in graph.ops) for graph in (cut, whole))
    return done / all_ if all_ else 0.0


def lines(name: str, figures: Mapping[str, EngineFigures]) -> list[str]:
    """The rows of the table for one network and number of threads."""
    ours, out = figures[OURS], []
    for engine, figure in figures.items():
        ratio = figure.latency.p50_ms / ours.latency.p50_ms
        floor = 2.5 if engine == "onnxruntime fp32" else 1.3 if engine != OURS and "fp32" not in engine else None
        kept = "" if floor is None else f"{floor:6.2f} {'kept' if ratio >= floor else 'MISSED'}"
        out.append(
            f"{name:20} {figure.threads:7} {engine:20} {host_engine.allowed_to(engine, figure):12} {figure.latency.min_ms:8.2f}"
            f" {figure.latency.p50_ms:9.2f} {ratio:12.2f} {(figure.memory_bytes or 0) / 1e6:8.0f} {kept}".rstrip()
        )
    return out


def _given(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not path or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE with a file that is there")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-root", default=os.environ.get("AXFORGE_DATA_ROOT"))
    parser.add_argument("--models", default=",".join(MODELS), metavar="NAME,...", help=", ".join(MODELS))
    parser.add_argument("--onnx", type=_given, action="append", default=[], metavar="NAME=FILE", help="a network of your own, too")
    parser.add_argument("--threads", default="1,2", metavar="N,...", help="numbers of threads (1,2)")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each engine runs (5)")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PROGRAM", help="Python that has the other engines (this one)")
    parser.add_argument("--engines", default=",".join(OTHERS), metavar="NAME,...", help=", ".join(OTHERS))
    parser.add_argument("--work", help="folder that keeps prepared models between runs")
    return parser


def compare(args: argparse.Namespace, names: Sequence[str], work: Path) -> None:
    """Prints the table, row by row."""
    print(f"{this_computer().cpu}. {host_engine.allowed()}")
    print(
        f"{'model':20} {'threads':>7} {'engine':20} {'instructions':12} {'min ms':>8} {'median ms':>9} {'other / ours':>12}"
        f" {'MB':>8} {'floor':>6}"
    )
    for name in names:
        folder = prepare(name, Path(args.data_root), work, dict(args.onnx))
        print(f"{name:20} measured: {share(folder):.0%} of the multiply-adds in int8 layers")
        for count in map(int, args.threads.split(",")):
            figures, missing = host_engine.measure(folder, count, args.seconds, args.engines.split(","), args.peer_python)
            print("\n".join([*lines(name, figures), *(f"{name:20} {count:7} not run: {why}" for why in missing)]), flush=True)


def main() -> int:
    """Runs the command; returns the exit status."""
    args = _parser().parse_args()
    names = [*filter(None, args.models.split(",")), *(name for name, _ in args.onnx)]
    unknown = [name for name in names if name not in MODELS and name not in dict(args.onnx)]
    if unknown or not args.data_root:
        print(
            f"'{unknown[0]}' is not one of {', '.join(MODELS)}." if unknown else "Say where the models are: --data-root FOLDER.",
            file=sys.stderr,
        )
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        compare(args, names, Path(args.work or temporary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
