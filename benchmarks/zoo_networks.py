"""Whether networks of the zoo's table compile and run under the pipelines that the table gives them, on graphs with random weights.

    python benchmarks/zoo_networks.py [NAME ...] [--folder FOLDER] [--picture PICTURE]

FOLDER holds graphs `*.shape.onnx` (without it: `models/shape/zoo` of AXFORGE_DATA_ROOT), whose weights are filled with seeded random
numbers. Each is added like the row of its network (`axforge zoo add --like`, which takes classes and sizes from the graph), compiled with
little effort, and run on PICTURE, all through the command line, as a user would. Boxes mean nothing with such weights; what is shown is
that every part takes the next one's values. The status is 1 if a network fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx

from axforge.ax_models.builders.shape import fill
from axforge.ax_models.zoo import table

SUFFIX = ".shape.onnx"
#: Graphs that are named in another way than the table's networks.
OTHERS = {
    "regnetx_1_6gf": "regnet_x_1_6gf-imagenet-onnx",
    "regnety_1_6gf": "regnet_y_1_6gf-imagenet-onnx",
    "resnet_101": "resnet101-imagenet-onnx",
    "resnet_18": "resnet18-imagenet-onnx",
    "resnet_50_v1.5": "resnet50-imagenet-onnx",
    "u_net_fcn_256": "unet_fcn_256-cityscapes-onnx",
    "u_net_fcn_512": "unet_fcn_512-cityscapes",
    "yolov5s": "yolov5s-v7-coco-onnx",
}


def network(graph: str) -> str:
    """The table's network of a graph's name. Raises LookupError if there is none."""
    base = graph.removesuffix(SUFFIX)
    ways = (f"{base.replace('_obb', '-obb')}-dotav1-onnx", f"{base.replace('_', '')}-coco-onnx", f"{base.replace('_', '-')}-coco-onnx")
    known = [OTHERS.get(base, ""), *ways, f"{base}-imagenet-onnx"]
    found = next((name for name in known if table.find(name)), "")
    if not found:
        raise LookupError(f"the table has no network for the graph {base}")
    return found


def run(path: Path, picture: str, folder: Path) -> str:
    """Add, compile and run the network of a graph; what went wrong, '' if nothing did."""
    base = path.name.removesuffix(SUFFIX).replace(".", "_")
    onnx.save(fill(path), folder / f"{base}.onnx")
    common = ["--effort", "fast", "--num-cal-images", "2"]
    for words in (
        ["zoo", "add", f"{base}.onnx", "--like", network(path.name), "--name", base, "--force"],
        ["infer", base, picture, *common],
    ):
        done = subprocess.run([sys.executable, "-m", "axforge.cli.main", *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stdout + done.stderr).strip()
    return ""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("AXFORGE_DATA_ROOT", ".")) / "models" / "shape" / "zoo")
    parser.add_argument("--picture", default="sample:astronaut")
    args = parser.parse_args()
    paths = sorted(args.folder.glob(f"*{SUFFIX}"), key=lambda p: (p.stat().st_size, p.name))
    chosen = [p for p in paths if not args.names or p.name.removesuffix(SUFFIX) in args.names]
    if not chosen:
        parser.error(f"no network of {args.folder} is chosen")
    failed = 0
    for path in chosen:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            wrong = run(path, args.picture, Path(folder))
        failed += bool(wrong)
        print(
            f"{path.name.removesuffix(SUFFIX):24} {network(path.name):36} {time.perf_counter() - start:6.1f} s  {wrong or 'runs'}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
