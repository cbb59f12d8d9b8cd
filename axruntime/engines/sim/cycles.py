"""How many cycles a program takes: each unit of each core works in order, and waits for its operands and for free buffers.

The time does not depend on data, so it is counted once from the program and the target. Units of a core: `in` (DMA into L1), `out` (DMA
from L1 and between shared memories), `load` (weights into the array), `array`, `dwpu`, `dpu`. Figures that the vendor has not
published are assumptions of the target file; docs/aipu.md names them.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.instruction import ExecutionUnit, Instruction, InstructionWork, WeightUse
from axforge.axcompiler.isa import DecodedInstruction, Opcode, records
from axforge.axcompiler.program import ITEMSIZE, Kind, Program, Space
from axforge.axcompiler.target import Target

UNITS = ("in", "out", "load", "array", "dwpu", "dpu")
#: bytes of L1 that the model watches as one: a layer may not write where one before still reads
GRAIN = 1024


@dataclass(frozen=True)
class LayerCycles:
    """One layer. start, end: cycles since the frame began; layers overlap. cycles: by how much it delays the end of all before it.

    busy: cycles that each unit worked, of all cores together. macs: products the array and the DWPU were asked for.
    """

    name: str
    start: int
    end: int
    cycles: int
    busy: dict[str, int]
    macs: int


@dataclass(frozen=True)
class Cycles:
    """A frame. total: cycles from the first instruction to the last; one frame at a time, all cores on it."""

    total: int
    clock_hz: int
    peak_macs: int
    cores: int
    layers: tuple[LayerCycles, ...]

    @property
    def frames_per_second(self) -> float:
        """One frame after the other, without transfers to the host."""
        return self.clock_hz / self.total if self.total else float("inf")

    @property
    def utilisation(self) -> float:
        """Products made, of those the arrays of all cores could have made."""
        return sum(layer.macs for layer in self.layers) / (self.total * self.peak_macs * self.cores) if self.total else 0.0

    def layer_utilisation(self, layer: LayerCycles) -> float:
        """The same for the cycles one layer adds."""
        return layer.macs / (layer.cycles * self.peak_macs * self.cores) if layer.cycles else 0.0


class _CoreClock:
    """Times of one core. read, written: when the last access ends, by grain of L1; shared: when a buffer of L2 or DDR was written, read."""

    def __init__(self, l1_size: int) -> None:
        self.at = 0
        self.issue = 0
        self.free = dict.fromkeys(UNITS, 0)
        self.read = np.zeros(l1_size // GRAIN + 2, np.int64)
        self.written = np.zeros(l1_size // GRAIN + 2, np.int64)
        self.shared_read: dict[int, int] = defaultdict(int)
        self.shared_written: dict[int, int] = defaultdict(int)
        self.loaded = 0
        self.products = [0, 0]

    def drained(self) -> int:
        """When all that was issued is done."""
        return max(self.issue, *self.free.values())


class Timeline:
    """Plays the streams of a program against a target's clock."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program, self.target = program, target
        operands, buffers = program.operands, program.buffers
        used = np.arange(operands["shape"].shape[1]) < operands["rank"][:, None]
        elements = np.prod(np.where(used, operands["shape"], 1), axis=1, dtype=np.int64)
        item = np.array([ITEMSIZE[k] for k in Kind], np.int64)[operands["kind"]]
        self._elements: list[int] = elements.tolist()
        self._bytes: list[int] = (elements * item).tolist()
        last = np.maximum(operands["rank"].astype(np.int64), 1) - 1
        self._columns: list[int] = operands["shape"][np.arange(len(operands)), last].tolist()
        self._buffer: list[int] = operands["buffer"].tolist()
        self._space: list[int] = buffers["space"][operands["buffer"].astype(np.int64)].tolist()
        extents = zip(buffers["offset"].tolist(), buffers["size"].tolist(), strict=True)
        extents = zip(buffers["offset"].tolist(), buffers["size"].tolist(), strict=True)
        self._covers = [slice(offset // GRAIN, (offset + size - 1) // GRAIN + 1) for offset, size in extents]
        dma = target.dma
        self._rates = {
            int(Space.CONST): dma.ddr_bytes_per_cycle,
            int(Space.DDR): dma.ddr_bytes_per_cycle,
            int(Space.L2): dma.l2_bytes_per_cycle,
            int(Space.L1): dma.l1_bytes_per_cycle,
        }
        count = len(program.header.layers)
        self._start, self._end = [0] * count, [0] * count
        self._seen = [False] * count
        self._busy: list[dict[str, int]] = [defaultdict(int) for _ in range(count)]
        self._macs = [0] * count
        self._first, self._last = self._extent()
        self._signals: dict[int, list[int]] = defaultdict(list)

    def _extent(self) -> tuple[int, int]:
        """First and last layer in which a unit of the AIPU works."""
        works = [opcode for opcode in Opcode if opcode.spec.unit is not ExecutionUnit.CONTROL]
        work = [s["layer"][np.isin(s["op"], works)] for s in self.program.streams]
        layers = np.concatenate(work)
        return (int(layers.min()), int(layers.max())) if len(layers) else (0, 0)

    def play(self) -> Cycles:
        """Count the cycles of a frame."""
        streams = [list(records(stream)) for stream in self.program.streams]
        cores = [_CoreClock(self.program.header.l1_size) for _ in streams]
        moved = True
        while moved:
            moved = False
            for core, stream in zip(cores, streams, strict=True):
                while core.at < len(stream) and self._step(core, stream[core.at]):
                    core.at += 1
                    moved = True
        array = self.target.array
        peak = array.rows * array.columns // array.cycles_per_vector
        total = max(core.drained() for core in cores)
        return Cycles(total, self.target.clock_hz, peak, len(cores), tuple(self._layers()))

    def _layers(self) -> list[LayerCycles]:
        out, last = [], 0
        for i, name in enumerate(self.program.header.layers):
            end = max(last, self._end[i])
            out.append(LayerCycles(name, self._start[i], self._end[i], end - last, dict(sorted(self._busy[i].items())), self._macs[i]))
            last = end
        return out

    def _step(self, core: _CoreClock, instruction: DecodedInstruction) -> bool:
        """Play one instruction; False if it waits for a signal that has not come."""
        opcode, layer = instruction.opcode, instruction.layer
        if opcode.spec.unit is not ExecutionUnit.CONTROL:
            self._work(core, instruction)
        elif opcode == Opcode.SIGNAL:
            core.issue = core.drained()
            self._signals[int(instruction.values["semaphore"])].append(core.issue + self.target.sync_cycles)
        elif opcode == Opcode.WAIT:
            values = instruction.values
            times, need = sorted(self._signals[int(values["semaphore"])]), int(values["count"])
            if len(times) < need:
                return False
            core.issue = max([core.drained(), *times[:need]])
        elif opcode == Opcode.HOST:
            start = core.drained()
            inside = self._first < layer < self._last  # the host runs head and tail while the AIPU is at other frames
            core.issue = start + (self.target.host_cycles if inside else 0)
            self._mark(layer, start, core.issue)
        return True

    def _work(self, core: _CoreClock, instruction: DecodedInstruction) -> None:
        """Play an instruction of a unit: it starts when the unit, what it reads and what it writes are free."""
        spec, operands = instruction.opcode.spec, instruction.operands
        out, reads = operands.get("out"), [index for slot, index in operands.items() if slot != "out"]
        work = self._sizes(operands)
        unit, cycles = self._unit(spec, out), spec.cycles(work, self.target)
        start = max([core.issue, core.free[unit], *(self._made(core, r) for r in reads)])
        if out is not None:
            start = max(start, self._vacant(core, out))
        if spec.weights is WeightUse.LOADED:  # a second set of cells is free once the product before the last is done
            start = max(start, core.products[-2] if self.target.array.load_hidden else core.products[-1])
        elif spec.weights is WeightUse.MULTIPLIED:
            start = max(start, core.loaded)
        end = start + cycles
        core.free[unit] = end
        if spec.weights is WeightUse.LOADED:
            core.loaded = end
        elif spec.weights is WeightUse.MULTIPLIED:
            core.products = [core.products[-1], end]
        for r in reads:
            self._note(core.read, core.shared_read, r, end)
        if out is not None:
            self._note(core.written, core.shared_written, out, end)
        self._mark(instruction.layer, start, end)
        self._busy[instruction.layer][unit] += cycles
        self._macs[instruction.layer] += spec.products(work)

    def _sizes(self, operands: Mapping[str, int]) -> InstructionWork:
        elements, columns = (
            {s: self._elements[i] for s, i in operands.items()},
            self._columns[operands["out" if "out" in operands else "a"]],
        )
        rate = min(self._rates[self._space[operands[slot]]] for slot in ("out", "a") if slot in operands)
        return InstructionWork(elements, {s: self._bytes[i] for s, i in operands.items()}, columns, rate)

    def _unit(self, spec: Instruction, out: int | None) -> str:
        """Which queue takes an instruction: the DMA has one into L1 and one out of it, the array one for weights that load hidden."""
        if spec.unit is ExecutionUnit.DMA:
            return "in" if out is not None and self._space[out] == Space.L1 else "out"
        if spec.weights is WeightUse.LOADED and self.target.array.load_hidden:
            return "load"
        return spec.unit.value.lower()

    def _grains(self, operand: int) -> slice | None:
        """The grains of L1 that the operand's buffer covers; None if it is in another memory."""
        return self._covers[self._buffer[operand]] if self._space[operand] == Space.L1 else None

    def _made(self, core: _CoreClock, operand: int) -> int:
        """When what an operand holds is written."""
        grains = self._grains(operand)
        return core.shared_written[self._buffer[operand]] if grains is None else int(core.written[grains].max())

    def _vacant(self, core: _CoreClock, operand: int) -> int:
        """When an operand may be overwritten. (DMA out is one queue, so shared buffers need not wait for its writes.)"""
        grains = self._grains(operand)
        if grains is None:
            return core.shared_read[self._buffer[operand]]
        return int(max(core.read[grains].max(), core.written[grains].max()))

    def _note(self, l1: NDArray[np.int64], shared: dict[int, int], operand: int, end: int) -> None:
        grains = self._grains(operand)
        if grains is None:
            shared[self._buffer[operand]] = max(shared[self._buffer[operand]], end)
        else:
            np.maximum(l1[grains], end, out=l1[grains])

    def _mark(self, layer: int, start: int, end: int) -> None:
        self._start[layer] = min(self._start[layer], start) if self._seen[layer] else start
        self._end[layer] = max(self._end[layer], end)
        self._seen[layer] = True


def count_cycles(program: Program, target: Target) -> Cycles:
    """Cycles of one frame of a checked program."""
    return Timeline(program, target).play()
