"""The instructions of a program: what each entry of `isa.py` says of operands and immediates, and that all streams come to their end."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.instruction import SLOTS, ByImmediate, ExecutionUnit, Value, WeightUse
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import DecodedInstruction, Opcode, records
from axforge.axcompiler.program import ITEMSIZE, NONE, Kind, Program, Records, Space
from axforge.axcompiler.shape_patterns import Bindings, Shape, ShapeError, match, size
from axforge.axcompiler.target import Target
from axforge.axruntime.program_check.rules import ProgramError, require
from axforge.axruntime.program_check.tables import require_zero


class Operands:
    """The tables of operands and their buffers, both checked, by columns. Bytes: what the operand's elements take if each has its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        operands = program.operands
        buffers = program.buffers[operands["buffer"].astype(np.int64)]
        self.shapes: list[Shape] = [
            tuple(shape[:rank]) for shape, rank in zip(operands["shape"].tolist(), operands["rank"].tolist(), strict=True)
        ]
        self.kinds: list[int] = operands["kind"].tolist()
        self.spaces: list[int] = buffers["space"].tolist()
        self.cores: list[int] = buffers["core"].tolist()
        self.first: list[int] = buffers["first"].tolist()
        self.last: list[int] = buffers["last"].tolist()
        self.room: list[int] = buffers["size"].tolist()
        self.bytes = [math.prod(s) * ITEMSIZE[Kind(k)] for s, k in zip(self.shapes, self.kinds, strict=True)]

    def __len__(self) -> int:
        return len(self.shapes)

    def use(self, index: int, layer: int, core: int, unit: ExecutionUnit) -> None:
        """Operand `index` is alive in `layer`, and where an instruction of `unit` on `core` may reach it."""
        require(self.first[index] <= layer <= self.last[index], "an operand is used while its buffer is not live")
        if self.spaces[index] == Space.L1:
            require(self.cores[index] == core, "an operand is in another core's L1")
        else:
            require(unit is ExecutionUnit.DMA, "a unit other than the DMA reaches beyond L1")

    def require_dense(self, index: int, slot: str) -> None:
        """No more elements than the buffer has room for; an operand that repeats or overlaps itself may have more."""
        require(self.bytes[index] <= self.room[index], f"operand '{slot}' has more elements than its buffer")

    def constant(self, index: int) -> NDArray[np.int32]:
        """A dense int32 operand in the parameters, as an array; ProgramError if it is not there."""
        row, shape = self.program.operands[index], self.shapes[index]
        start = int(self.program.buffers[row["buffer"]]["offset"]) + int(row["offset"])
        dense = all(int(s) == 4 * math.prod(shape[a + 1 :]) for a, s in enumerate(row["strides"][: len(shape)]))
        end = start + 4 * math.prod(shape)
        inside = self.spaces[index] == Space.CONST and end <= len(self.program.constants)
        require(dense and inside, "takes its indices from elsewhere than the parameters")
        return np.frombuffer(memoryview(self.program.constants)[start:end], "<i4").reshape(shape)


def check_stream(operands: Operands, graph: Graph, target: Target, core: int, stream: Records) -> None:
    """Raise ProgramError at the first rule that the stream of `core` breaks."""
    require_zero(stream, ("zero", "pad"))
    require(
        len(stream) and stream["op"][-1] == Opcode.END and not np.any(stream["op"][:-1] == Opcode.END),
        "a stream must have exactly one end, its last instruction",
    )
    require(bool((stream["op"] <= max(Opcode)).all()), "there is an unknown instruction")
    require(bool((stream["layer"] < max(1, len(graph.ops))).all()), "an instruction belongs to no layer")
    require(bool((stream["layer"][1:] >= stream["layer"][:-1]).all()), "the layers of a stream are out of order")
    for opcode in Opcode:
        _check_fields(opcode, operands, core, stream[stream["op"] == opcode])
    checker = _InstructionChecker(operands, graph, target, core)
    for instruction in records(stream):
        try:
            checker.check(instruction)
        except (ProgramError, ShapeError) as e:
            raise ProgramError(f"{instruction.opcode.name} in layer {instruction.layer} of core {core}: {e}") from None


def _check_fields(opcode: Opcode, operands: Operands, core: int, rows: Records) -> None:
    """All instructions of one opcode have the fields its entry says, and nothing in the others."""
    spec, immediates = opcode.spec, list(opcode.spec.immediates.items())

    def all_rows(ok: NDArray[np.bool_], what: str) -> None:
        if not ok.all():
            raise ProgramError(f"{opcode.name} in layer {int(rows['layer'][ok.argmin()])} of core {core}: {what}")

    for slot in SLOTS:
        ok = rows[slot] < len(operands) if slot in spec.operands else rows[slot] == NONE
        all_rows(ok, f"operand '{slot}' is missing or too much")
    count = len(operands.program.epilogues)
    all_rows(rows["epilogue"] < count if spec.epilogue else rows["epilogue"] == NONE, "has no epilogue, or one too many")
    all_rows(rows["flags"] < 1 << len(spec.flags), "has an unknown flag")
    for i in range(4):
        name, least, most = "", 0, 0
        if i < len(immediates):
            name, immediate = immediates[i]
            least, most = immediate.least, immediate.most
        values = rows["imm"][:, i]
        all_rows((values >= least) & (values <= most), f"immediate '{name}' is out of range" if name else "an unused immediate is not zero")


class _InstructionChecker:
    """Checks the instructions of a stream in their order. weights: rows and columns of what the array holds."""

    def __init__(self, operands: Operands, graph: Graph, target: Target, core: int) -> None:
        self._operands, self._graph, self._target, self._core = operands, graph, target, core
        self._weights: tuple[int, int] | None = None
        #: shapes that matched before: most instructions of a layer have the same
        self._matched: dict[tuple[object, ...], Bindings] = {}

    def check(self, instruction: DecodedInstruction) -> None:
        """Raise ProgramError or ShapeError at the first rule that the instruction breaks."""
        opcode, layer, operands = instruction.opcode, instruction.layer, instruction.operands
        spec = opcode.spec
        for index in operands.values():
            self._operands.use(index, layer, self._core, spec.unit)
        values = instruction.values
        self._check_kinds(opcode, operands, values)
        axes = self._match(opcode, operands, instruction.imm, values)
        if "out" in operands:
            require(self._operands.spaces[operands["out"]] != Space.CONST, "an instruction writes to constants")
        self._check_contents(opcode, operands, axes)
        if spec.weights is WeightUse.LOADED:
            self._load(axes)
        elif spec.weights is WeightUse.MULTIPLIED:
            require(self._weights is not None, "multiplies before weights are loaded")
            require(self._weights == (size(axes["K"]), size(axes["M"])), "does not match the array's weights")
        if spec.epilogue:
            self._check_epilogue(instruction, self._operands.shapes[operands["out"]])
        if opcode == Opcode.HOST:
            self._check_host(layer, int(values["operator"]))

    def _check_kinds(self, opcode: Opcode, operands: Mapping[str, int], values: Mapping[str, Value]) -> None:
        free: int | None = None
        for slot, operand in opcode.spec.operands.items():
            found, kind = self._operands.kinds[operands[slot]], operand.kind
            if isinstance(kind, ByImmediate):
                kind = kind.kinds[int(values[kind.immediate])]
            elif kind is None:
                free = found if free is None else free
            good = found == (free if kind is None else kind)
            require(good, "an operand does not have the type its instruction takes")

    def _match(self, opcode: Opcode, operands: Mapping[str, int], imm: tuple[int, ...], values: Mapping[str, Value]) -> Bindings:
        key = (opcode, imm, *(self._operands.shapes[index] for index in operands.values()))
        if key not in self._matched:
            found: Bindings = {}
            for slot, operand in opcode.spec.operands.items():
                try:
                    match(operand.shape, self._operands.shapes[operands[slot]], values, found)
                except ShapeError as e:
                    raise ProgramError(f"operands have other shapes: {e} of '{slot}'") from None
            self._matched[key] = found
        return self._matched[key]

    def _check_contents(self, opcode: Opcode, operands: Mapping[str, int], axes: Bindings) -> None:
        """Operands fit their buffers (what an instruction computes is bounded by the memories), and indices fit what they index."""
        for slot, operand in opcode.spec.operands.items():
            if operand.dense or slot == "out":
                self._operands.require_dense(operands[slot], slot)
            if operand.index_of:
                index = self._operands.constant(operands[slot])
                require(bool(((index >= 0) & (index < size(axes[operand.index_of]))).all()), "an index is outside its operand")

    def _load(self, axes: Bindings) -> None:
        rows, columns = size(axes["K"]), size(axes["M"])
        array = self._target.array
        require(rows <= array.rows and columns <= array.columns, "loads more weights than the array has cells")
        self._weights = rows, columns

    def _check_epilogue(self, instruction: DecodedInstruction, out: Shape) -> None:
        row, operands = self._operands.program.epilogues[instruction.epilogue], self._operands
        for field, kind, shape in (("bias", Kind.INT32, out), ("multiplier", Kind.FLOAT32, out), ("table", Kind.INT8, (256,))):
            index = int(row[field])
            if index != NONE:
                operands.use(index, instruction.layer, self._core, instruction.opcode.spec.unit)
                require(operands.kinds[index] == kind, "an operand does not have the type its instruction takes")
                require(operands.shapes[index] == shape, f"the epilogue's {field} must have shape {list(shape)}")
        require(not instruction.opcode.spec.scaled or int(row["multiplier"]) != NONE, "has no multiplier")

    def _check_host(self, layer: int, operator: int) -> None:
        require(operator < len(self._graph.ops) and operator == layer, "asks the host for another layer")
        require(isinstance(self._graph.ops[operator], ir.Island), "asks the host to run what is not an island")


def check_synchronisation(program: Program) -> None:
    """Play signals and waits: all streams must come to their end."""
    kept = [list(records(s[(s["op"] == Opcode.SIGNAL) | (s["op"] == Opcode.WAIT)])) for s in program.streams]
    at, semaphores, moved = [0] * len(kept), dict[Value, int](), True
    while moved:
        moved = False
        for core, stream in enumerate(kept):
            while at[core] < len(stream):
                values = stream[at[core]].values
                semaphore = values["semaphore"]
                if stream[at[core]].opcode == Opcode.SIGNAL:
                    semaphores[semaphore] = semaphores.get(semaphore, 0) + 1
                elif semaphores.get(semaphore, 0) < values["count"]:
                    break
                at[core] += 1
                moved = True
    require(all(i == len(s) for i, s in zip(at, kept, strict=True)), "the cores wait for each other forever")
