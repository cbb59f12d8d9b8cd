"""Collects a program: instructions of each core, and the tables of buffers, operands, epilogues and parameters."""

from collections.abc import Sequence

import numpy as np

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.instruction import Value
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import BUFFER, EPILOGUE, INSTRUCTION, MAX_RANK, NONE, OPERAND, Kind, Records, Space
from axforge.axcompiler.strides import coalesce, dense
from axforge.axcompiler.target import Target
from axforge.axcompiler.tile.views import View

_KIND = {"int8": Kind.INT8, "int32": Kind.INT32, "float32": Kind.FLOAT32}


#: a record of one of the program's tables
Row = tuple[object, ...]


class ProgramEmitter:
    """Grows a program layer by layer. L1 buffers live for one layer; `begin` frees those of the last."""

    def __init__(self, target: Target, cores: int, where: str) -> None:
        self.target, self.cores, self.where = target, cores, where
        self.layer, self.layer_name = 0, ""
        self._semaphore = 0
        self._busy = False
        self._word, self._first = target.word_bytes, 0
        self._l1 = [0] * cores
        self._streams: list[list[Row]] = [[] for _ in range(cores)]
        self._buffers: list[tuple[int, int, int, int, int, bytes, int, int]] = []
        self._operands: list[Row] = []
        self._operand_ids: dict[View, int] = {}
        self._epilogues: list[Row] = []
        self._constants = bytearray()

    # ---- buffers

    def begin(self, layer: int, name: str) -> None:
        """Start a layer: L1 is free again."""
        self.finish()
        self.layer, self.layer_name, self._l1, self._first = layer, name, [0] * self.cores, len(self._buffers)

    def finish(self) -> None:
        """Close a layer. Every other one moves to the end of L1, so that neighbours, if small, can overlap."""
        if self.layer % 2:
            for i in range(self._first, len(self._buffers)):
                space, core, *_, offset, size = row = self._buffers[i]
                if space == Space.L1:
                    self._buffers[i] = (*row[:-2], offset + self.l1_capacity // self._word * self._word - self._l1[core], size)
        self._first = len(self._buffers)

    def aligned(self, size: int) -> int:
        """`size` up to whole words."""
        word = self.target.word_bytes
        return (size + word - 1) // word * word

    @property
    def l1_capacity(self) -> int:
        """Bytes of L1 that a layer may use on one core."""
        return self.target.memories.l1.usable

    def buffer(self, space: Space, offset: int, size: int, first: int, last: int, core: int = 0) -> int:
        """A new row in the table of buffers."""
        self._buffers.append((int(space), core, 0, first, last, b"", offset, size))
        return len(self._buffers) - 1

    def l1(self, core: int, shape: Sequence[int], kind: Kind = Kind.INT8) -> View:
        """A dense tile in L1 of `core`, until the layer ends. Raises CompileError when L1 is full."""
        view = dense(len(self._buffers), shape, kind)
        size = self.aligned(max(1, view.size * (1 if kind == Kind.INT8 else 4)))
        offset = self._l1[core]
        if offset + size > self.l1_capacity:
            raise self.no_fit(offset + size)
        self._l1[core] += size
        self.buffer(Space.L1, offset, size, self.layer, self.layer, core)
        return view

    def l1_free(self, core: int) -> int:
        """Bytes of L1 that are still free in this layer."""
        return self.l1_capacity - self._l1[core]

    def no_fit(self, need: int, what: str = "its smallest tile") -> CompileError:
        """The error for a layer that does not fit L1."""
        return CompileError(
            f"layer '{self.layer_name}' does not fit: {what} needs {need:,} bytes of L1, a core has {self.l1_capacity:,}",
            where=self.where,
            fix=f"Make its input {need / self.l1_capacity:.1f} times smaller (fewer columns or channels), split the layer, or exclude it"
            " from quantization so that it runs on the CPU.",
        )

    def constant(self, value: Array) -> View:
        """Parameters appended to CONST; one buffer each."""
        value = np.ascontiguousarray(value)
        offset = len(self._constants)
        self._constants += value.tobytes().ljust(self.aligned(max(1, value.nbytes)), b"\0")
        buffer = self.buffer(Space.CONST, offset, max(1, value.nbytes), 0, NONE)
        return dense(buffer, value.shape, _KIND[value.dtype.name])

    # ---- records

    def operand(self, view: View | None) -> int:
        """Index of the operand record of `view`."""
        if view is None:
            return NONE
        if view not in self._operand_ids:
            rank = len(view.shape)
            if rank > MAX_RANK:
                raise CompileError(
                    f"layer '{self.layer_name}' takes an operand of {rank} axes; the AIPU counts at most {MAX_RANK}", where=self.where
                )
            shape, strides = ((*t, *[0] * (MAX_RANK - rank)) for t in (view.shape, view.strides))
            self._operand_ids[view] = len(self._operands)
            self._operands.append((view.buffer, int(view.kind), rank, 0, view.offset, shape, strides, b""))
        return self._operand_ids[view]

    def epilogue(self, zero_point: int, lo: int, hi: int, bias: View | None, multiplier: View | None, table: View | None) -> int:
        """Index of a new epilogue record. bias and multiplier have the shape of the accumulator, with strides of 0 where they repeat."""
        self._epilogues.append((zero_point, lo, hi, self.operand(bias), self.operand(multiplier), self.operand(table), b""))
        return len(self._epilogues) - 1

    def op(
        self,
        core: int,
        opcode: Opcode,
        out: View | None = None,
        a: View | None = None,
        b: View | None = None,
        c: View | None = None,
        *,
        epilogue: int = NONE,
        **values: Value,
    ) -> None:
        """Append an instruction to the stream of `core`. values: its immediates and flags, by the names of `isa.py`."""
        immediates, flags = opcode.spec.encode(values)
        ids = [self.operand(v) for v in (out, a, b, c)]
        self._busy = True
        self._streams[core].append((int(opcode), flags, 0, self.layer, *ids, epilogue, immediates, b""))

    def copy(self, core: int, out: View, a: View) -> None:
        """out = a by DMA, with as few axes as possible."""
        if out.size:
            out, a = coalesce([out, a])
            self.op(core, Opcode.DMA, out, a)

    def fill(self, core: int, out: View, value: int) -> None:
        """out = value by DMA."""
        if out.size:
            self.op(core, Opcode.FILL, coalesce([out])[0], value=value)

    def load(self, core: int, a: View) -> View:
        """A dense L1 copy of `a` (repeated elements are loaded once and repeated by strides of 0)."""
        slim = View(a.buffer, a.offset, tuple(1 if s == 0 else d for d, s in zip(a.shape, a.strides, strict=True)), a.strides, a.kind)
        tile = self.l1(core, slim.shape, a.kind)
        self.copy(core, tile, slim)
        return tile.broadcast(a.shape)

    def barrier(self) -> None:
        """Make all cores wait for each other; left out where the layer did nothing since the last barrier."""
        if self.cores > 1 and self._busy:
            for core in range(self.cores):
                self.op(core, Opcode.SIGNAL, semaphore=self._semaphore)
            for core in range(self.cores):
                self.op(core, Opcode.WAIT, semaphore=self._semaphore, count=self.cores)
            self._semaphore += 1
            self._busy = False

    # ---- results

    def streams(self) -> tuple[Records, ...]:
        """Finished streams, each closed by END."""
        end = (int(Opcode.END), 0, 0, self.layer, NONE, NONE, NONE, NONE, NONE, (0, 0, 0, 0), b"")
        return tuple(np.array([*s, end], INSTRUCTION) for s in self._streams)

    def buffers(self) -> Records:
        """Table of buffers."""
        return np.array(self._buffers, BUFFER)

    def operands(self) -> Records:
        """Table of operands."""
        return np.array(self._operands, OPERAND)

    def epilogues(self) -> Records:
        """Table of epilogues."""
        return np.array(self._epilogues, EPILOGUE)

    def constants(self) -> bytes:
        """Parameters, padded to a word."""
        return bytes(self._constants)
