"""Whether every network of a folder compiles on each number of cores, and whether the simulator then equals the reference.

    python benchmarks/zoo_compiles.py [NAME ...] [--folder FOLDER] [--cores 1 2 3 4] [--compare MILLIONS]

FOLDER holds graphs `*.shape.onnx`, whose weights are seeded random numbers (without it: `models/shape/zoo` of AXFORGE_DATA_ROOT).
Networks with the smallest files come first. Each is calibrated once, with a frame of noise; `tile` runs for each number of cores.
Networks of at most MILLIONS of multiply-adds also run a frame in the simulator, which must give the codes of the reference.
The status is 1 if a network does not compile or differs.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import onnx

from axforge.ax_models.builders.shape import fill
from axforge.axcompiler import api, target
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.engine import SimEngine
from axforge.axruntime.program_check import check

SUFFIX = ".shape.onnx"


def noise(model: onnx.ModelProto) -> list[dict[str, Array]]:
    """One sample: seeded noise in 0..1 for every input."""
    rng = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [{name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}]


def outcome(graph: Graph, cores: int, millions: int) -> str:
    """'compiles', 'equal', or 'DIFFERS: ' and the outputs that do. Raises whatever the compiler raises."""
    metis = target.load("metis")
    program = compile_program(graph, metis, cores)[0]
    check(program, graph, metis)
    if sum(op.multiply_adds(graph) for op in graph.ops) > millions * 1_000_000:
        return "compiles"
    rng = np.random.default_rng(1)
    feeds = {name: rng.random(graph.tensors[name].shape, dtype=np.float32) for name in graph.inputs}
    want, got = Reference(graph).run(feeds, raw=True), SimEngine(graph, program).run(feeds, raw=True)
    wrong = [name for name in graph.outputs if not np.array_equal(want[name], got[name])]
    return "DIFFERS: " + ", ".join(wrong) if wrong else "equal"


def examine(path: Path, cores: list[int], millions: int) -> bool:
    """Print one line for each number of cores; False if one of them fails."""
    name, good = path.name.removesuffix(SUFFIX), True
    try:
        with tempfile.TemporaryDirectory() as folder:
            graph = api.compile(fill(path), noise, workdir=folder).graph
    except Exception:  # any error of the compiler is a finding, and the next network is examined all the same
        print(f"{name:28} FAILS before tile or on the standard cores\n{traceback.format_exc(limit=-2)}", flush=True)
        return False
    for count in cores:
        start = time.perf_counter()
        try:
            result = outcome(graph, count, millions)
        except Exception:  # as above
            result = "FAILS\n" + traceback.format_exc(limit=-2)
        good &= result in ("compiles", "equal")
        print(f"{name:28} {count} cores  {time.perf_counter() - start:6.1f} s  {result}", flush=True)
    return good


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("AXFORGE_DATA_ROOT", ".")) / "models" / "shape" / "zoo")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--compare", type=int, default=0, metavar="MILLIONS")
    args = parser.parse_args()
    paths = sorted(args.folder.glob(f"*{SUFFIX}"), key=lambda p: (p.stat().st_size, p.name))
    chosen = [p for p in paths if not args.names or p.name.removesuffix(SUFFIX) in args.names]
    if not chosen:
        parser.error(f"no network of {args.folder} is chosen")
    failed = sum(not examine(path, args.cores, args.compare) for path in chosen)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
