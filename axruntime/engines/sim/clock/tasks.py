"""A program as tasks: how long each instruction takes, what it asks of shared memories, and what it waits for.

Units of a core, each in order: `in` (DMA into L1), `out` (DMA from L1 and between shared memories), `load` (weights into the array),
`array`, `dwpu`, `dpu`. An instruction waits until what it reads is written, and until what it overwrites is read. L1 is watched in
grains, because layers use its bytes for other buffers; L2 and DDR by buffer.
"""

from collections.abc import Mapping

import numpy as np

from axforge.axcompiler.instruction import ExecutionUnit, Instruction, InstructionWork, WeightUse
from axforge.axcompiler.isa import DecodedInstruction, Opcode, records
from axforge.axcompiler.program import ITEMSIZE, Kind, Program, Space
from axforge.axcompiler.target import Target
from axforge.axruntime.engines.sim.clock.events import Command, Control, Task
from axforge.axruntime.engines.sim.clock.transfers import Side, Transfer, TransferCosts

UNITS = ("in", "out", "load", "array", "dwpu", "dpu")
#: bytes of L1 that are watched as one: an instruction may not write where one before still reads
GRAIN = 1024
_BEFORE_ALL = -1
_CONTROL = {Opcode.SIGNAL: Control.SIGNAL, Opcode.WAIT: Control.WAIT, Opcode.HOST: Control.HOST}


class OperandColumns:
    """The program's operands as columns of plain numbers."""

    def __init__(self, program: Program) -> None:
        operands, buffers = program.operands, program.buffers
        ranks = operands["rank"].tolist()
        self.item: list[int] = np.array([ITEMSIZE[k] for k in Kind], np.int64)[operands["kind"]].tolist()
        self.shape = [shape[:rank] for shape, rank in zip(operands["shape"].tolist(), ranks, strict=True)]
        self.strides = [strides[:rank] for strides, rank in zip(operands["strides"].tolist(), ranks, strict=True)]
        used = np.arange(operands["shape"].shape[1]) < operands["rank"][:, None]
        self.elements: list[int] = np.prod(np.where(used, operands["shape"], 1), axis=1, dtype=np.int64).tolist()
        self.buffer: list[int] = operands["buffer"].tolist()
        self.space: list[int] = buffers["space"][operands["buffer"].astype(np.int64)].tolist()
        extents = zip(buffers["offset"].tolist(), buffers["size"].tolist(), strict=True)
        self.grains = [slice(offset // GRAIN, (offset + size - 1) // GRAIN + 1) for offset, size in extents]

    def bytes(self, index: int) -> int:
        """Bytes that a copy of the operand reads or writes."""
        return self.elements[index] * self.item[index]

    def side(self, index: int) -> Side:
        """An operand as an end of a copy."""
        return Side(self.space[index], self.shape[index], self.strides[index], self.item[index])


class _History:
    """Of one core, and of one kind of access: the last task of each unit, by grain of L1 and by buffer of L2 or DDR.

    Units work in order, so the last one of each is all that a later task has to wait for.
    """

    def __init__(self, operands: OperandColumns, l1_size: int) -> None:
        self._operands = operands
        self._l1 = np.full((len(UNITS), l1_size // GRAIN + 2), _BEFORE_ALL, np.int64)
        self._shared: dict[int, list[int]] = {}

    def last(self, operand: int) -> list[int]:
        """Positions in the stream, by unit."""
        buffer = self._operands.buffer[operand]
        if self._operands.space[operand] != Space.L1:
            return self._shared.get(buffer, [])
        last: list[int] = self._l1[:, self._operands.grains[buffer]].max(axis=1).tolist()
        return last

    def note(self, operand: int, unit: int, position: int) -> None:
        """The task at `position` accesses the operand."""
        buffer = self._operands.buffer[operand]
        if self._operands.space[operand] == Space.L1:
            self._l1[unit, self._operands.grains[buffer]] = position
        else:
            self._shared.setdefault(buffer, [_BEFORE_ALL] * len(UNITS))[unit] = position


class TaskBuilder:
    """Makes the tasks of a program."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program, self.target = program, target
        self.operands = OperandColumns(program)
        self._transfers = TransferCosts(target)
        self._known: dict[tuple[int, ...], Transfer] = {}
        self._first, self._last = self._extent()
        #: islands at the head and the tail of the graph, which the host runs while the AIPU is at other frames
        self.ends: set[int] = set()

    def _extent(self) -> tuple[int, int]:
        """First and last layer in which a unit of the AIPU works."""
        works = [opcode for opcode in Opcode if opcode.spec.unit is not ExecutionUnit.CONTROL]
        layers = np.concatenate([s["layer"][np.isin(s["op"], works)] for s in self.program.streams])
        return (int(layers.min()), int(layers.max())) if len(layers) else (0, 0)

    def streams(self) -> list[list[Task | Command]]:
        """The tasks and commands of each core."""
        return [self._stream(core, list(records(stream))) for core, stream in enumerate(self.program.streams)]

    def _stream(self, core: int, instructions: list[DecodedInstruction]) -> list[Task | Command]:
        out: list[Task | Command] = []
        read, written = (_History(self.operands, self.program.header.l1_size) for _ in range(2))
        loads, products = list[int](), list[int]()
        for instruction in instructions:
            opcode = instruction.opcode
            if opcode.spec.unit is ExecutionUnit.CONTROL:
                if opcode in _CONTROL:
                    out.append(self._command(instruction))
                continue
            task = self.task(core, instruction)
            waits = self._waits(instruction, read, written) | self._weights(opcode.spec.weights, loads, products)
            for before in sorted(waits - {_BEFORE_ALL}):
                other = out[before]
                if isinstance(other, Task) and other.unit != task.unit:
                    task.after(other)
            for slot, operand in instruction.operands.items():
                (written if slot == "out" else read).note(operand, task.unit, len(out))
            if opcode.spec.weights is not WeightUse.UNUSED:
                (loads if opcode.spec.weights is WeightUse.LOADED else products).append(len(out))
            out.append(task)
        return out

    def _waits(self, instruction: DecodedInstruction, read: _History, written: _History) -> set[int]:
        """Positions of what makes the operands, and of what still needs the place of the result."""
        found: set[int] = set()
        for slot, operand in instruction.operands.items():
            found.update(written.last(operand))
            if slot == "out":
                found.update(read.last(operand))
        return found

    def _weights(self, use: WeightUse, loads: list[int], products: list[int]) -> set[int]:
        """Positions of what the array's weight cells wait for: a second set is free once the product before the last is done."""
        if use is WeightUse.MULTIPLIED:
            return set(loads[-1:])
        if use is WeightUse.LOADED:
            return set(products[-2:-1] if self.target.array.load_hidden else products[-1:])
        return set()

    def _command(self, instruction: DecodedInstruction) -> Command:
        values = instruction.values
        control = _CONTROL[instruction.opcode]
        if control is not Control.HOST:
            return Command(control, instruction.layer, int(values["semaphore"]), int(values.get("count", 0)))
        inside = self._first < instruction.layer < self._last
        if not inside:
            self.ends.add(instruction.layer)
        return Command(control, instruction.layer, cycles=self.target.host_cycles if inside else 0)

    def task(self, core: int, instruction: DecodedInstruction) -> Task:
        """The task of an instruction of a unit, which waits for nothing yet."""
        spec, operands = instruction.opcode.spec, instruction.operands
        transfer = self._transfer(instruction) if spec.unit is ExecutionUnit.DMA else None
        work = self._work(instruction, transfer.cycles if transfer else 0)
        cycles = spec.cycles(work, self.target) - work.transfer
        unit = UNITS.index(self._unit(spec, operands.get("out")))
        return Task(core, instruction.layer, unit, cycles, transfer, spec.products(work))

    def _work(self, instruction: DecodedInstruction, transfer: int) -> InstructionWork:
        at, operands = self.operands, instruction.operands
        shape = at.shape[operands["out" if "out" in operands else "a"]]
        words = self._vector_words(instruction) if instruction.opcode.spec.weights is WeightUse.MULTIPLIED else 0
        elements = {slot: at.elements[i] for slot, i in operands.items()}
        return InstructionWork(elements, shape[-1] if shape else 1, transfer, words)

    def _vector_words(self, instruction: DecodedInstruction) -> int:
        """Words of L1 that hold one vector of the array's operand."""
        side, axes = self.operands.side(instruction.operands["a"]), int(instruction.values["axes"])
        vector = Side(side.space, side.shape[axes:], side.strides[axes:], side.item)
        return vector.moved(range(len(vector.shape) - 1, -1, -1), self.target.word_bytes) // self.target.word_bytes

    def _transfer(self, instruction: DecodedInstruction) -> Transfer:
        """The cost of a copy, a fill or a gather; equal operands are looked at once."""
        operands: Mapping[str, int] = instruction.operands
        out, a = operands["out"], operands.get("a", -1)
        axis = int(instruction.values["axis"]) if instruction.opcode is Opcode.GATHER else -1
        key = (out, a, axis)
        if key not in self._known:
            sides = [self.operands.side(out)]
            if a >= 0:
                source = self.operands.side(a)
                strides = [0 if i <= axis else stride for i, stride in enumerate(source.strides)]
                sides.append(Side(source.space, sides[0].shape, strides if axis >= 0 else source.strides, source.item))
            self._known[key] = self._transfers.of(sides)
        return self._known[key]

    def _unit(self, spec: Instruction, out: int | None) -> str:
        """Which queue takes an instruction: the DMA has one into L1 and one out of it, the array one for weights that load hidden."""
        if spec.unit is ExecutionUnit.DMA:
            return "in" if out is not None and self.operands.space[out] == Space.L1 else "out"
        if spec.weights is WeightUse.LOADED and self.target.array.load_hidden:
            return "load"
        return spec.unit.value.lower()
