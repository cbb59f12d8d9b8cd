"""Time of every step of a model on one thread: `axmodel profile FILE`.

FILE is a `.axmodel` or a `graph.axgraph`. Each step is timed by itself (the best of some runs, with its operands where the step before
left them), so that the sum is the time of a frame without threads. Peak is what the path's product instruction reaches on registers.
"""

import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from axforge.axcompiler import graphfile
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.peak import PeakParams, PeakSpec, macs_per_turn
from axforge.axruntime.engines.host.codegen.params import CONSTS, Ref, kernel_of, leaves, packed
from axforge.axruntime.engines.host.emission.steps import Step
from axforge.axruntime.engines.host.emission.tile_products import tile_config
from axforge.axruntime.engines.host.engine import Context, HostEngine
from axforge.axruntime.engines.host.native import cache
from axforge.axruntime.engines.host.native.objcode import Mapped
from axforge.usage import Parser


class Line(msgspec.Struct, frozen=True):
    """One step: seconds, and its multiply-accumulates."""

    step: Step
    seconds: float

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second."""
        return self.step.macs / self.seconds if self.seconds else 0.0


def profile(engine: HostEngine, rounds: int = 20) -> list[Line]:
    """Times every native step; islands are left out."""
    context = Context(engine)
    rng = np.random.default_rng(0)
    feeds = {}
    for name in engine.graph.inputs:
        tensor = engine.graph.tensors[name]
        shape = [max(d, 1) for d in tensor.shape]
        feeds[name] = rng.integers(-128, 128, shape).astype(np.int8) if tensor.quant else np.zeros(shape, tensor.dtype)
    context.run(feeds, True)
    call = context.single_step()
    best = [float("inf")] * len(engine.plan.steps)
    for _ in range(rounds):
        for i in range(len(best)):
            start = time.perf_counter()
            call(i)
            best[i] = min(best[i], time.perf_counter() - start)
    overhead = _call_overhead(engine)
    return [Line(s, max(t - overhead, 1e-9)) for s, t in zip(engine.plan.steps, best, strict=True)]


def _call_overhead(engine: HostEngine) -> float:
    """Seconds of a native call that runs no step."""
    best = float("inf")
    for _ in range(50):
        start = time.perf_counter()
        engine.native(None, None, 0, 0, 1, None, None)
        best = min(best, time.perf_counter() - start)
    return best


def report(lines: Sequence[Line], peak: float, top: int) -> str:
    """The table: the slowest steps, then the sums by kernel. peak: multiply-accumulates a second."""
    total = sum(line.seconds for line in lines)
    macs = sum(line.step.macs for line in lines)
    out = [f"{'us':>9} {'share':>6} {'GMAC/s':>8} {'of peak':>8}  kernel      operator"]
    for line in sorted(lines, key=lambda item: -item.seconds)[:top]:
        rate = f"{line.rate / 1e9:8.0f} {line.rate / peak:8.0%}" if line.step.macs else f"{'':17}"
        out.append(f"{line.seconds * 1e6:9.1f} {line.seconds / total:6.1%} {rate}  {_kernel(line.step):<11} {line.step.name}")
    out.append("")
    groups: dict[str, float] = {}
    for line in lines:
        groups[_kernel(line.step)] = groups.get(_kernel(line.step), 0.0) + line.seconds
    out += [f"{seconds * 1e6:9.1f} {seconds / total:6.1%}  {name}" for name, seconds in sorted(groups.items(), key=lambda g: -g[1])]
    out.append(f"{total * 1e6:9.1f} us a frame, {macs / 1e9:.2f} GMAC, {macs / total / 1e9:.0f} GMAC/s, {macs / total / peak:.0%} of peak")
    return "\n".join(out)


def _kernel(step: Step) -> str:
    op = getattr(step.params.spec, "op", "")
    return f"{step.params.family}:{op}" if op else step.params.family


def measure_peak(isa: Isa) -> float:
    """Multiply-accumulates a second of the path's product instruction, on registers."""
    turns, cfg_ref = 20000, Ref("", 0) if isa.dot == "amx" else None
    peak: PeakParams[Ref, int, np.float32] = PeakParams(spec=PeakSpec(), n=turns, cfg=cfg_ref)
    code = Mapped(cache.load([kernel_of(peak)], isa, cache.default_cache()))
    scratch = np.zeros(8192, np.uint8)
    cfg = tile_config(16)
    bases = np.array([0, cfg.ctypes.data, scratch.ctypes.data], np.int64)
    params = np.array(packed(leaves(peak), {"": (CONSTS, 0)}), np.int64)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code.addresses[0])
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        run(bases.ctypes.data, params.ctypes.data, 0, 1)
        best = min(best, time.perf_counter() - start)
    return turns * macs_per_turn(isa) / best


def load(path: Path) -> Graph:
    """The fused graph of a `.axmodel` or `graph.axgraph`."""
    if path.suffix == ".axgraph":
        return graphfile.load(path)
    from axforge.axruntime.axmodel import AxModel

    return AxModel.open(path, program=False).graph


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the profile of one file."""
    parser = Parser(prog="axmodel profile", description="Time of every step on one thread.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--cpu", default="", help="code path: amx, avx512vnni, avxvnni, avx2, generic")
    parser.add_argument("--top", type=int, default=30, help="steps to list")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args(arguments)
    try:
        engine = HostEngine(load(args.file), 1, cpu=args.cpu)
    except (AxforgeError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    print(
        f"{args.file}: path {engine.isa.name}, arena {engine.plan.arena / 1e6:.1f} MB, constants {engine.plan.constants.size / 1e6:.1f} MB"
    )
    print(report(profile(engine, args.rounds), measure_peak(engine.isa), args.top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
