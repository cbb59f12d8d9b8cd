"""The simulated AIPU: its memories, and what each instruction does to them. Bit for bit `numerics.py`.

An instruction is made ready once (`Machine.prepare`): its operands become NumPy views of the memories, each inside the buffer the
memory plan grants; anything else is an AccessError. A frame then only calls what was prepared.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.program import ACCUMULATE, DTYPE, NONE, Kind, Opcode, Program, Space

Array = NDArray[Any]
Step = Callable[[], None]

#: elements of a block that a chain of element-wise steps works on at once: it stays in the CPU's L2 cache
BLOCK = 1 << 16
#: float32 elements of an im2col block: half a MiB, so that the product finds it in the CPU's L2 cache
PATCH = 1 << 17


class AccessError(AxforgeError):
    """An instruction reaches outside what the memory plan granted it."""


def _float(bits: int) -> np.float32:
    return np.float32(struct.unpack("<f", struct.pack("<i", bits))[0])


class Machine:
    """Memories and array weights of one AIPU that runs `program`. const: the bytes of CONST."""

    def __init__(self, program: Program, const: NDArray[np.uint8]) -> None:
        self.program = program
        header = program.header
        shared = {Space.CONST: const, Space.DDR: np.zeros(header.ddr_size, np.uint8), Space.L2: np.zeros(header.l2_size, np.uint8)}
        self._memory: dict[tuple[Space, int], NDArray[np.uint8]] = {(s, 0): m for s, m in shared.items()}
        for core in range(header.cores):
            self._memory[Space.L1, core] = np.zeros(header.l1_size, np.uint8)
        self.weights: list[Array] = [np.zeros((0, 0), np.float32)] * header.cores
        self._kind: list[Any] = [np.float32] * header.cores
        self._views: dict[int, Array] = {}
        self._scratch = [np.empty(0, np.float32), np.empty(0, np.float32)]

    def _room(self, which: int, size: int) -> Callable[[], Array]:
        """Scratch of float32 that all instructions share, so that it stays in the CPU's cache: two of them, of at least `size`."""
        if self._scratch[which].size < size:
            self._scratch[which] = np.empty(size + size % 2, np.float32)
        return lambda: self._scratch[which]

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
        dtype: np.dtype[Any] = DTYPE[Kind(int(row["kind"]))]
        offset = int(row["offset"])
        low = offset + sum(min(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True))
        high = offset + sum(max(0, (n - 1) * s) for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        if min(shape, default=1) < 1 or low < 0 or high > region.size:
            raise AccessError(f"operand {index} reaches bytes {low} to {high} of a buffer of {region.size} bytes")
        base = region[offset : offset + dtype.itemsize].view(dtype)
        writable = bool(region.flags.writeable)
        return as_strided(base, shape, strides, writeable=writable)

    # ---- instructions

    def prepare(self, core: int, record: np.void) -> Step:
        """The instruction as a function without arguments."""
        opcode, layer = Opcode(int(record["op"])), int(record["layer"])
        operands = {f: self.view(int(record[f]), layer) for f in ("out", "a", "b", "c") if int(record[f]) != NONE}
        imm = [int(v) for v in record["imm"]]
        method: Callable[..., Step] = getattr(self, f"_{opcode.name.lower()}")
        kwargs: dict[str, Any] = dict(operands)
        if opcode in (Opcode.REQUANT, Opcode.ADD, Opcode.MUL, Opcode.SOFTMAX):
            kwargs["finish"] = self._epilogue(int(record["epilogue"]), layer)
        if opcode in (Opcode.LOADW, Opcode.MVM):
            kwargs["core"] = core
        if opcode == Opcode.MVM:
            kwargs["accumulate"] = bool(record["flags"] & ACCUMULATE)
        return method(imm=imm, **kwargs)

    def _dma(self, out: Array, a: Array, imm: list[int]) -> Step:
        return lambda: np.copyto(out, a)

    def _fill(self, out: Array, imm: list[int]) -> Step:
        return lambda: out.fill(imm[0])

    def _gather(self, out: Array, a: Array, b: Array, imm: list[int]) -> Step:
        return lambda: np.copyto(out, np.take(a, b, axis=imm[0]))

    def _loadw(self, a: Array, imm: list[int], core: int) -> Step:
        # sums of products below 2**24 are exact in float32, of a deeper array in float64
        kind: Any = np.float32 if a.shape[0] * 255 * (255 if imm[0] else 128) < 1 << 24 else np.float64
        self._kind[core] = kind

        def step() -> None:
            weights = a.astype(kind)
            self.weights[core] = weights - kind(imm[0]) if imm[0] else weights

        return step

    def _mvm(self, out: Array, a: Array, imm: list[int], core: int, accumulate: bool) -> Step:
        pixels = imm[0]
        depth = int(np.prod(a.shape[pixels:]))
        columns = out.shape[-1]
        inner = int(np.prod(a.shape[1:pixels]))
        rows = max(1, PATCH // max(1, inner * depth))
        kind = self._kind[core]
        zero = kind(imm[1])
        blocks = [(a[i : i + rows], out[i : i + rows]) for i in range(0, a.shape[0], rows)]
        most = min(rows, a.shape[0]) * inner
        wide = np.dtype(kind).itemsize // 4
        patches, results = self._room(0, most * depth * wide), self._room(1, most * columns * wide)

        def step() -> None:
            weights, patch, result = self.weights[core], patches().view(kind), results().view(kind)
            for source, target in blocks:
                count = source.shape[0] * inner
                x = patch[: count * depth]
                np.copyto(x.reshape(source.shape), source)
                if zero:
                    x -= zero
                y = np.matmul(x.reshape(count, depth), weights, out=result[: count * columns].reshape(count, columns))
                y = y.reshape(target.shape)
                if accumulate:
                    np.add(target, y.astype(np.int32), out=target)
                else:
                    np.copyto(target, y, casting="unsafe")

        return step

    def _dwconv(self, out: Array, a: Array, b: Array, imm: list[int]) -> Step:
        taps = [(i, j) for i in range(a.shape[3]) for j in range(a.shape[4])]
        wide = out.shape[1]
        rows = max(1, BLOCK // max(1, wide * out.shape[2]))
        kind = np.float32 if len(taps) * 255 * 128 < 1 << 24 else np.int32  # either is exact
        blocks = [(out[r : r + rows], [a[r : r + rows, :, :, i, j] for i, j in taps]) for r in range(0, out.shape[0], rows)]
        size = min(rows, out.shape[0]) * wide * out.shape[2]
        totals, products = self._room(0, size), self._room(1, size)

        def step() -> None:
            # weights repeated along a row, so that NumPy's inner loop is a row and not only its channels
            weights = np.repeat(b.astype(kind).transpose(1, 2, 0)[:, :, None], wide, axis=2).reshape(len(taps), wide, -1)
            for y, (first, *others) in blocks:
                t, p = (room()[: y.size].view(kind).reshape(y.shape) for room in (totals, products))
                np.copyto(t, first)
                np.multiply(t, weights[0], out=t)
                for x, w in zip(others, weights[1:], strict=True):
                    np.copyto(p, x)
                    np.multiply(p, w, out=p)
                    np.add(t, p, out=t)
                np.copyto(y, t, casting="unsafe")

        return step

    def _reduce(self, out: Array, a: Array, imm: list[int]) -> Step:
        axes = tuple(range(imm[0], a.ndim))
        count = int(np.prod(a.shape[imm[0] :]))
        if imm[1]:
            if count <= 64:
                return lambda: _fold(out, a, imm[0], np.maximum)
            return lambda: np.copyto(out, a.max(axis=axes))
        return lambda: np.copyto(out, a.sum(axis=axes, dtype=np.int32))

    def _requant(self, out: Array, a: Array, imm: list[int], finish: "Epilogue") -> Step:
        bias, multiplier = finish.bias, finish.multiplier
        inner = int(np.prod(a.shape[1:]))
        rows = max(1, BLOCK // max(1, inner))
        parts = range(0, a.shape[0], rows) if a.ndim else range(1)

        def part(view: Array | None, r: int) -> Array | None:
            return view if view is None or not view.ndim else view[r : r + rows]

        blocks = [(part(out, r), part(a, r), part(bias, r), part(multiplier, r)) for r in parts]

        def step() -> None:
            finish.ready()
            for y, x, b, m in blocks:
                assert x is not None
                assert y is not None
                assert m is not None
                t = (x + b if b is not None else x).astype(np.float32)
                t *= m
                finish.store(t, y)

        return step

    def _table(self, out: Array, a: Array, b: Array, imm: list[int]) -> Step:
        return lambda: np.copyto(out, translate(a, b))

    def _add(self, out: Array, a: Array, b: Array, imm: list[int], finish: "Epilogue") -> Step:
        za, zb, ma, mb = np.float32(imm[0]), np.float32(imm[1]), _float(imm[2]), _float(imm[3])

        def block(y: Array, x: Array, w: Array) -> None:
            t = (x.astype(np.float32) - za) * ma
            finish.store(np.asarray(t + (w.astype(np.float32) - zb) * mb), y)

        return _blocked(block, finish, out, a, b)

    def _mul(self, out: Array, a: Array, b: Array, imm: list[int], finish: "Epilogue") -> Step:
        za, zb, m = np.float32(imm[0]), np.float32(imm[1]), _float(imm[2])

        def block(y: Array, x: Array, w: Array) -> None:
            t = (x.astype(np.float32) - za) * (w.astype(np.float32) - zb)
            finish.store(np.asarray(t * m), y)

        return _blocked(block, finish, out, a, b)

    def _softmax(self, out: Array, a: Array, b: Array, imm: list[int], finish: "Epilogue") -> Step:
        m = _float(imm[0])

        def step() -> None:
            finish.ready()
            wide = a.astype(np.int32)
            e = b[wide.max(axis=-1, keepdims=True) - wide]
            total = e.sum(axis=-1, keepdims=True, dtype=np.int32)
            finish.store(e.astype(np.float32) / total.astype(np.float32) * m, out)

        return step

    def _resize(self, out: Array, a: Array, b: Array, c: Array, imm: list[int]) -> Step:
        zero, first = imm[0], imm[1]

        def step() -> None:
            x = a.astype(np.int32) - zero
            (h0, h1, v0, v1), (w0, w1, u0, u1) = b, c
            if min(h0.min(), h1.min()) < first or max(h0.max(), h1.max()) >= first + x.shape[0]:
                raise AccessError("a resize reads rows that were not loaded")
            if min(w0.min(), w1.min()) < 0 or max(w0.max(), w1.max()) >= x.shape[1]:
                raise AccessError("a resize reads columns that are not there")
            rows = x[h0 - first] * v0[:, None, None] + x[h1 - first] * v1[:, None, None]
            np.copyto(out, rows[:, w0] * u0[:, None] + rows[:, w1] * u1[:, None])

        return step

    # ---- epilogues

    def _epilogue(self, index: int, layer: int) -> "Epilogue":
        row = self.program.epilogues[index]

        def operand(field: str) -> Array | None:
            return self.view(int(row[field]), layer) if int(row[field]) != NONE else None

        return Epilogue(int(row["zero_point"]), int(row["lo"]), int(row["hi"]), operand("bias"), operand("multiplier"), operand("table"))


def _fold(out: Array, a: Array, kept: int, join: Any) -> None:
    """out = join over the axes of `a` after the first `kept`, element by element: quicker than an axis reduction for small windows."""
    flat = list(np.ndindex(*a.shape[kept:]))
    np.copyto(out, a[(..., *flat[0])])
    for index in flat[1:]:
        join(out, a[(..., *index)], out=out)


def _blocked(block: Callable[[Array, Array, Array], None], finish: "Epilogue", out: Array, a: Array, b: Array) -> Step:
    """Run `block` over parts of the first axis that stay in cache."""
    if not out.ndim:
        parts = [(out, a, b)]
    else:
        rows = max(1, BLOCK // max(1, int(np.prod(out.shape[1:]))))
        parts = [(out[r : r + rows], a[r : r + rows], b[r : r + rows]) for r in range(0, out.shape[0], rows)]

    def step() -> None:
        finish.ready()
        for y, x, w in parts:
            block(y, x, w)

    return step


def translate(codes: Array, table: Array) -> Array:
    """table[codes + 128]. bytes.translate is the fastest byte table Python has; it counts from 0, codes from -128."""
    order = np.roll(table, -128).tobytes()
    return np.frombuffer(codes.tobytes().translate(order), np.int8).reshape(codes.shape)


class Epilogue:
    """code = clamp(round(t) + zero_point, lo, hi), then the table."""

    def __init__(self, zero_point: int, lo: int, hi: int, bias: Array | None, multiplier: Array | None, table: Array | None) -> None:
        self.bias, self.multiplier, self._table = bias, multiplier, table
        self._zero, self._lo, self._hi = np.float32(zero_point), np.float32(lo - zero_point), np.float32(hi - zero_point)
        self._order = b""

    def ready(self) -> None:
        """Read the table from memory, before a row of `store`s."""
        if self._table is not None:
            self._order = np.roll(self._table, -128).tobytes()

    def store(self, t: Array, out: Array) -> None:
        """Write the codes of `t` (float32, overwritten) to `out`."""
        np.rint(t, out=t)
        t.clip(self._lo, self._hi, out=t)
        t += self._zero
        if self._table is None:
            np.copyto(out, t, casting="unsafe")
        else:
            codes = t.astype(np.int8).tobytes().translate(self._order)
            np.copyto(out, np.frombuffer(codes, np.int8).reshape(out.shape))
