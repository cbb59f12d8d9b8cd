"""The memories of the simulated AIPU, and instructions made ready to run on them. Bit for bit `numerics.py`.

An instruction is made ready once (`Machine.prepare`): its operands become NumPy views of the memories, each inside the buffer the
memory plan grants; anything else is an AccessError. A frame then only calls what was prepared.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

import axforge.axruntime.engines.sim.units  # noqa: F401  registers what instructions do
from axforge.axcompiler.isa import DecodedInstruction
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import DTYPE, NONE, Kind, Program, Space
from axforge.axruntime.engines.sim.core import AccessError, AccumulatorFinish, Core, Scratch, Step, executes


class Machine:
    """The memories and cores of one AIPU that runs `program`. const: the bytes of CONST."""

    def __init__(self, program: Program, const: NDArray[np.uint8]) -> None:
        self.program = program
        header = program.header
        shared = {Space.CONST: const, Space.DDR: np.zeros(header.ddr_size, np.uint8), Space.L2: np.zeros(header.l2_size, np.uint8)}
        self._memory: dict[tuple[Space, int], NDArray[np.uint8]] = {(s, 0): m for s, m in shared.items()}
        for core in range(header.cores):
            self._memory[Space.L1, core] = np.zeros(header.l1_size, np.uint8)
        scratch = Scratch()
        self._cores = [Core(scratch) for _ in range(header.cores)]
        self._views: dict[int, Array] = {}

    def poison(self, seed: int) -> None:
        """Fill every writable memory with noise, so that whatever is read before it is written shows."""
        rng = np.random.default_rng(seed)
        for (space, _), memory in self._memory.items():
            if space != Space.CONST:
                memory[:] = rng.integers(0, 256, memory.size, np.uint8)

    def region(self, index: int) -> NDArray[np.uint8]:
        """The bytes of buffer `index`."""
        row = self.program.buffers[index]
        space = Space(int(row["space"]))
        memory = self._memory[space, int(row["core"]) if space == Space.L1 else 0]
        start, size = int(row["offset"]), int(row["size"])
        if start + size > memory.size:
            raise AccessError(f"buffer {index} ends at byte {start + size} of a memory of {memory.size} bytes")
        return memory[start : start + size]

    def view(self, index: int, layer: int | None = None) -> Array:
        """Operand `index` as an array on the memory. layer: in which it is used (None: by the host)."""
        row = self.program.operands[index]
        buffer = self.program.buffers[int(row["buffer"])]
        if layer is not None and not int(buffer["first"]) <= layer <= int(buffer["last"]):
            raise AccessError(f"operand {index} is used in layer {layer}, its buffer lives from {buffer['first']} to {buffer['last']}")
        if index not in self._views:
            self._views[index] = self._make_view(index, row)
        return self._views[index]

    def _make_view(self, index: int, row: np.void) -> Array:
        region, rank = self.region(int(row["buffer"])), int(row["rank"])
        shape, strides = (tuple(int(v) for v in row[f][:rank]) for f in ("shape", "strides"))
        dtype = DTYPE[Kind(int(row["kind"]))]
        offset = int(row["offset"])
        low = offset + sum(min(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True))
        high = offset + sum(max(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        if min(shape, default=1) < 1 or low < 0 or high > region.size:
            raise AccessError(f"operand {index} reaches bytes {low} to {high} of a buffer of {region.size} bytes")
        base = region[offset : offset + dtype.itemsize].view(dtype)
        writable = bool(region.flags.writeable)
        return as_strided(base, shape, strides, writeable=writable)

    def prepare(self, core: int, instruction: DecodedInstruction) -> Step:
        """The instruction as a function without arguments."""
        opcode, layer, operands, epilogue = instruction.opcode, instruction.layer, instruction.operands, instruction.epilogue
        arguments: dict[str, object] = {slot: self.view(index, layer) for slot, index in operands.items()}
        arguments.update(instruction.values)
        if opcode.spec.epilogue:
            arguments["finish"] = self._finish(epilogue, layer)
        return executes[opcode](self._cores[core], **arguments)

    def _finish(self, index: int, layer: int) -> AccumulatorFinish:
        row = self.program.epilogues[index]
        bias, multiplier, table = (self.view(i, layer) if (i := int(row[f])) != NONE else None for f in ("bias", "multiplier", "table"))
        return AccumulatorFinish(int(row["zero_point"]), int(row["lo"]), int(row["hi"]), bias, multiplier, table)
