"""How busy the product instructions of the aarch64 paths are, by a model of the processor: needs `llvm-mca`, and no such processor.

    python benchmarks/aarch64_model.py [--llvm-mca PROGRAM]

For each layer, the innermost loop of its convolution is compiled and given to llvm-mca, once as it is and once with nothing but its product
instructions (sdot; or smull, smlal and the sadalp that widens their sums). The share is the cycles of the latter divided by those of the
former: 100 % means that loads, sign changes and the loop itself cost nothing. These are models, not measurements: they know neither
caches nor branch prediction, and older releases of LLVM take one core's model for another (release 14 takes that of cortex-a57 for
cortex-a76 and the neoverse cores). The exit status is 1 if a share is below the floor.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axruntime.engines.host.codegen.features import PATHS, Isa
from axforge.axruntime.engines.host.native.compile import assembly
from axforge.axruntime.engines.host.planning.plan import make

CORES = ("cortex-a55", "cortex-a76", "neoverse-n1", "neoverse-v1", "apple-m1")
#: (input channels, output channels, kernel)
LAYERS = ((64, 64, 1), (256, 64, 1), (64, 64, 3), (128, 128, 3), (512, 512, 3))
FLOOR = 0.85
_TRIPLE = "aarch64-unknown-linux-gnu"
_PRODUCTS = re.compile(r"\s+(sdot|smull2?|smlal2?|sadalp)\s")
_TURNS = 200


def convolution(channels: int, out: int, kernel: int) -> Graph:
    """A graph of one convolution of a 20 x 20 image."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(-127, 128, (out, channels, kernel, kernel)).astype(np.int8),
        "b": np.zeros(out, np.int32),
        "m": np.full(out, 1e-4, np.float32),
    }
    op = ir.Conv(
        name="conv",
        inputs=("x",),
        outputs=("y",),
        weight="w",
        bias="b",
        multiplier="m",
        strides=(1, 1),
        dilations=(1, 1),
        pads=(kernel // 2,) * 4,
        groups=1,
        epilogue=Epilogue(zero_point=0, lo=-128, hi=127, table=None),
    )
    quant = Quant(0.125, 0)
    tensors = {"x": Tensor((1, channels, 20, 20), quant=quant), "y": Tensor((1, out, 20, 20), quant=quant)}
    return Graph("layer", tensors, (op,), ("x",), ("y",), constants)


def inner_loop(text: str) -> list[str]:
    """The instructions of the basic block that jumps to itself and has most products."""
    best: list[str] = []
    label, block = "", list[str]()
    for line in text.splitlines():
        found = re.match(r"(\.L\w+):", line)
        if found:
            label, block = found[1], []
        elif re.match(r"\s+[a-z]", line):
            block.append(line)
            jumps = re.match(rf"\s+(b\.|cbn?z|tbn?z).*{re.escape(label)}$", line) if label else None
            if jumps and _products(block) > _products(best):
                best = list(block)
    return best


def is_product(line: str) -> bool:
    """Whether a line of assembler text is one of the path's product instructions."""
    return _PRODUCTS.match(line) is not None


def _products(block: Sequence[str]) -> int:
    return sum(map(is_product, block))


def cycles(program: str, core: str, isa: Isa, lines: Sequence[str]) -> float:
    """Cycles of one turn of a loop."""
    options = (f"-mtriple={_TRIPLE}", f"-mcpu={core}", f"-mattr={isa.llvm_features}", f"-iterations={_TURNS}")
    done = subprocess.run([program, *options], input="\n".join(lines), text=True, capture_output=True, check=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    assert found is not None
    return int(found[1]) / _TURNS


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llvm-mca", default="llvm-mca", metavar="PROGRAM")
    args = parser.parse_args()
    program = shutil.which(args.llvm_mca)
    if program is None:
        print(f"There is no program '{args.llvm_mca}': install llvm, or say where it is with --llvm-mca.", file=sys.stderr)
        return 1
    version = re.search(r"LLVM version (\S+)", subprocess.run([program, "--version"], text=True, capture_output=True, check=True).stdout)
    print(f"llvm-mca {version[1] if version else ''}: models, not measurements. Floor {FLOOR:.0%}.")
    print(f"{'path':9} {'layer':18} {'products':>8} {'others':>7} " + " ".join(f"{core:>12}" for core in CORES))
    kept = True
    for isa in (path for path in PATHS if path.arm):
        for channels, out, kernel in LAYERS:
            plan = make(convolution(channels, out, kernel), isa)
            loop = inner_loop(assembly(plan.kernels, isa, _TRIPLE))
            products = [line for line in loop if is_product(line)]
            shares = [cycles(program, core, isa, products) / cycles(program, core, isa, loop) for core in CORES]
            kept &= min(shares) >= FLOOR
            row = " ".join(f"{share:11.0%}{' ' if share >= FLOOR else '!'}" for share in shares)
            layer = f"{channels} -> {out} {kernel}x{kernel}"
            print(f"{isa.name:9} {layer:18} {len(products):8} {len(loop) - len(products):7} {row}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
