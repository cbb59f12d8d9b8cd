"""The rules a program keeps, as code. `check` runs on every program that is read, so that the simulator may rely on them.

Every index, shape and offset is inside its table or buffer; every buffer is inside its memory, and no two that are live together
share a byte; every operand is used while its buffer lives, by the core whose L1 it lies in; operands have the types and shapes their
instruction takes; indices that decide addresses are inside their range; signals and waits come to an end.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import HAS_EPILOGUE, ITEMSIZE, MAX_RANK, NONE, Kind, Opcode, Program, Space, fits, image_size
from axforge.axcompiler.target import Target

LIMIT = 1 << 40
#: operands an instruction takes, of out, a, b, c
OPERANDS: dict[Opcode, tuple[str, ...]] = {
    Opcode.END: (),
    Opcode.SIGNAL: (),
    Opcode.WAIT: (),
    Opcode.HOST: (),
    Opcode.DMA: ("out", "a"),
    Opcode.FILL: ("out",),
    Opcode.GATHER: ("out", "a", "b"),
    Opcode.LOADW: ("a",),
    Opcode.MVM: ("out", "a"),
    Opcode.DWCONV: ("out", "a", "b"),
    Opcode.REDUCE: ("out", "a"),
    Opcode.REQUANT: ("out", "a"),
    Opcode.TABLE: ("out", "a", "b"),
    Opcode.ADD: ("out", "a", "b"),
    Opcode.MUL: ("out", "a", "b"),
    Opcode.SOFTMAX: ("out", "a", "b"),
    Opcode.RESIZE: ("out", "a", "b", "c"),
}
#: instructions of the DMA, which reaches every memory; all others see the L1 of their core
MOVES = (Opcode.DMA, Opcode.FILL, Opcode.GATHER)


class ProgramError(Exception):
    """A rule is broken; the message says which."""


def _require(ok: object, what: str) -> None:
    if not ok:
        raise ProgramError(what)


def check(program: Program, graph: Graph, target: Target) -> None:
    """Raises ProgramError at the first rule that `program`, which runs `graph` on `target`, breaks."""
    _require((why := fits(target, program.header)) is None, f"the program does not fit the AIPU: {why}")
    _require(program.header.layers == tuple(op.name for op in graph.ops), "the program was made of another graph")
    _buffers(program)
    _no_overlap(program.buffers)
    _operands(program)
    _images(program, graph)
    _places(program, graph)
    _epilogues(program)
    for core, stream in enumerate(program.streams):
        _stream(program, graph, target, core, stream)
    _synchronisation(program)


def _zero(records: NDArray[Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        _require(not any(records[field].tobytes()), "an unused field of a record is not zero")


def _buffers(program: Program) -> None:
    b, header = program.buffers, program.header
    _zero(b, ("zero", "pad"))
    _require(bool((b["space"] <= Space.L1).all()), "a buffer lies in no memory")
    _require(bool((b["core"][b["space"] != Space.L1] == 0).all()), "a shared buffer belongs to a core")
    _require(bool((b["core"] < header.cores).all()), "a buffer lies in the L1 of a core that is not used")
    _require(bool(((b["offset"] < LIMIT) & (b["size"] >= 1) & (b["size"] < LIMIT)).all()), "a buffer has an impossible size")
    sizes = np.array([header.const_size, header.ddr_size, header.l2_size, header.l1_size], np.uint64)
    _require(bool((b["offset"] + b["size"] <= sizes[b["space"]]).all()), "a buffer ends beyond its memory")
    _require(bool((b["first"] <= b["last"]).all()), "a buffer ends before it begins to live")
    _require(len(program.constants) <= header.const_size, "the parameters are longer than their memory")


def _no_overlap(b: NDArray[Any]) -> None:
    """Sweep by offset: a buffer may only meet earlier ones, that reach into it, if they never live together."""
    for space, core in sorted({(int(s), int(c)) for s, c in zip(b["space"], b["core"], strict=True)}):
        if space == Space.CONST:
            continue
        rows = b[(b["space"] == space) & (b["core"] == core)]
        if space == Space.L1:  # one layer each: compare within a layer
            order = np.lexsort((rows["offset"], rows["first"]))
            rows = rows[order]
            same = rows["first"][1:] == rows["first"][:-1]
            _require(bool((rows["first"] == rows["last"]).all()), "a buffer in L1 lives longer than a layer")
            ends = rows["offset"][:-1] + rows["size"][:-1]
            _require(not np.any(same & (ends > rows["offset"][1:])), "two buffers in L1 share memory")
            continue
        start, stop = rows["offset"].astype(np.int64), (rows["offset"] + rows["size"]).astype(np.int64)
        for i in range(len(rows)):
            meets = (start < stop[i]) & (stop > start[i]) & (rows["first"] <= rows["last"][i]) & (rows["last"] >= rows["first"][i])
            _require(int(meets.sum()) == 1, "two buffers that live together share memory")


def _operands(program: Program) -> None:
    o = program.operands
    _zero(o, ("zero", "pad"))
    _require(bool((o["buffer"] < len(program.buffers)).all()), "an operand lies in no buffer")
    _require(bool((o["kind"] <= Kind.FLOAT32).all() and (o["rank"] <= MAX_RANK).all()), "an operand has no known type or rank")
    used = np.arange(MAX_RANK) < o["rank"][:, None]
    shape, strides = o["shape"].astype(np.int64), o["strides"]
    _require(bool((shape[used] >= 1).all() and (shape[~used] == 0).all() and (strides[~used] == 0).all()), "an operand has an empty axis")
    _require(bool((np.abs(strides) < LIMIT).all() and (np.abs(o["offset"]) < LIMIT).all()), "an operand has an impossible stride or offset")
    reach = np.where(used, (shape - 1).astype(np.float64) * strides, 0.0)
    _require(bool((np.abs(reach) < 2.0**52).all()), "an operand reaches too far")
    exact = np.where(used, (shape - 1) * strides, 0)
    item = np.array([ITEMSIZE[k] for k in Kind], np.int64)[o["kind"]]
    low = o["offset"] + np.minimum(exact, 0).sum(axis=1)
    high = o["offset"] + np.maximum(exact, 0).sum(axis=1) + item
    size = program.buffers["size"][o["buffer"]].astype(np.int64)
    _require(bool(((low >= 0) & (high <= size)).all()), "an operand reaches outside its buffer")
    base = program.buffers["offset"][o["buffer"]].astype(np.int64) + o["offset"]
    aligned = (base % item == 0) & ((strides % item[:, None] == 0).all(axis=1))
    _require(bool(aligned.all()), "an operand of words of 4 bytes is not aligned to them")
    elements = np.prod(np.where(used, shape, 1).astype(np.float64), axis=1)
    _require(bool((elements < 2.0**31).all()), "an operand has more elements than 32 bits count")


def _images(program: Program, graph: Graph) -> None:
    end = len(program.constants)
    for image in program.header.images:
        _require(image.constant in graph.constants, f"there is no constant '{image.constant}'")
        shape = graph.constants[image.constant].shape
        ranks = {"plain": len(shape), "dense": 2, "depthwise": 4, "conv": 4, "transposed": 4}
        _require(graph.constants[image.constant].dtype == np.int8, f"constant '{image.constant}' is no weight")
        _require(ranks.get(image.form) == len(shape), f"constant '{image.constant}' has not the shape of form '{image.form}'")
        if image.form in ("conv", "transposed"):
            groups, fold = image.groups, image.fold
            _require(groups >= 1 and fold >= 1 and groups % fold == 0 and shape[0] % groups == 0, f"'{image.constant}' does not fold")
            deep = shape[1] if image.form == "conv" else shape[0] // groups
            _require(deep * fold <= image.channels <= deep * fold + 64, f"'{image.constant}' does not fit its channels")
        else:
            _require(image.form != "depthwise" or shape[1] == 1, f"'{image.constant}' is no depthwise weight")
        _require(image.offset >= end, f"constant '{image.constant}' overlaps another")
        end = image.offset + image_size(shape, image)
    _require(end <= program.header.const_size, "the weights end beyond their memory")


def _places(program: Program, graph: Graph) -> None:
    header = program.header
    quantized = {n for n, t in graph.tensors.items() if t.quant and 0 not in t.shape}
    _require(set(header.places) == quantized, "the places are not those of the graph's tensors")
    for name, index in header.places.items():
        _require(0 <= index < len(program.operands), f"tensor '{name}' lies nowhere")
        row = program.operands[index]
        shape = tuple(int(d) for d in row["shape"][: int(row["rank"])])
        _require(shape == graph.tensors[name].shape and row["kind"] == Kind.INT8, f"tensor '{name}' has another shape in memory")
    for name, port in header.ports.items():
        _require(name in graph.tensors and graph.tensors[name].quant, f"'{name}' is no quantized tensor")
        _require(len(port.pads) == 8 and min(*port.pads, *port.shape) >= 0, f"the port of '{name}' is malformed")
        _require(-128 <= port.fill <= 127, f"the port of '{name}' is filled with no code")
        if name in header.places:
            buffer = program.buffers[program.operands[header.places[name]]["buffer"]]
            _require(int(np.prod([float(d) for d in port.shape])) <= buffer["size"], f"the port of '{name}' is larger than its buffer")
            _require(buffer["space"] == Space.DDR, f"the host cannot reach '{name}'")
    for name in host_written(graph):
        if name in header.places:
            _require(name in header.ports, f"the host has no port for '{name}'")


def host_written(graph: Graph) -> list[str]:
    """Quantized tensors that the host writes: inputs, and results of islands."""
    made = [n for op in graph.ops if isinstance(op, ir.Island) for n in op.outputs]
    return [n for n in (*graph.inputs, *made) if graph.tensors[n].quant]


def _epilogues(program: Program) -> None:
    e = program.epilogues
    _zero(e, ("pad",))
    ok = (e["lo"] >= -128) & (e["lo"] <= e["hi"]) & (e["hi"] <= 127) & (e["zero_point"] >= -128) & (e["zero_point"] <= 127)
    _require(bool(ok.all()), "an epilogue has impossible bounds")
    for field in ("bias", "multiplier", "table"):
        _require(bool(((e[field] == NONE) | (e[field] < len(program.operands))).all()), f"an epilogue's {field} is no operand")


# ---------------------------------------------------------------- instructions


class _Instruction:
    """One record with its operands looked up."""

    def __init__(self, program: Program, core: int, record: Any) -> None:
        self.program, self.core, self.record = program, core, record
        self.opcode = Opcode(int(record["op"]))
        self.layer = int(record["layer"])
        self.imm = [int(v) for v in record["imm"]]

    def use(self, index: int, kind: Kind | None = None) -> tuple[int, ...]:
        """Shape of operand `index`, checked to be of `kind`, alive, and where this instruction may reach."""
        row = self.program.operands[index]
        buffer = self.program.buffers[row["buffer"]]
        space = Space(int(buffer["space"]))
        _require(int(buffer["first"]) <= self.layer <= int(buffer["last"]), "an operand is used while its buffer is not live")
        if space == Space.L1:
            _require(int(buffer["core"]) == self.core, "an operand lies in another core's L1")
        else:
            _require(self.opcode in MOVES, "a unit other than the DMA reaches beyond L1")
        _require(kind is None or int(row["kind"]) == kind, "an operand has not the type its instruction takes")
        return tuple(int(d) for d in row["shape"][: int(row["rank"])])

    def shape(self, field: str, kind: Kind | None = Kind.INT8) -> tuple[int, ...]:
        """Shape of the operand in `field`."""
        return self.use(int(self.record[field]), kind)

    def kind(self, field: str) -> int:
        """Type of the operand in `field`."""
        return int(self.program.operands[int(self.record[field])]["kind"])

    def writes(self) -> None:
        """The result is not in CONST, and has room for each of its elements: what an instruction computes is bounded by the memories."""
        row = self.program.operands[int(self.record["out"])]
        _require(int(self.program.buffers[row["buffer"]]["space"]) != Space.CONST, "an instruction writes to constants")
        self.dense("out")

    def dense(self, field: str) -> None:
        """No more elements than the buffer has room for; an operand that repeats or overlaps itself may have more."""
        row = self.program.operands[int(self.record[field])]
        elements = int(np.prod(row["shape"][: int(row["rank"])], dtype=np.int64))
        size = int(self.program.buffers[row["buffer"]]["size"])
        _require(elements * ITEMSIZE[Kind(int(row["kind"]))] <= size, f"operand '{field}' has more elements than its buffer")


def _stream(program: Program, graph: Graph, target: Target, core: int, stream: NDArray[Any]) -> None:
    _zero(stream, ("zero", "pad"))
    _require(len(stream) and stream["op"][-1] == Opcode.END and not np.any(stream["op"][:-1] == Opcode.END), "a stream has not one end")
    _require(bool((stream["op"] <= max(Opcode)).all()), "there is an unknown instruction")
    _require(bool((stream["layer"] < max(1, len(graph.ops))).all()), "an instruction belongs to no layer")
    _require(bool((stream["layer"][1:] >= stream["layer"][:-1]).all()), "the layers of a stream are out of order")
    weights: tuple[int, ...] | None = None
    for record in stream:
        i = _Instruction(program, core, record)
        try:
            weights = _instruction(i, graph, target, weights)
        except ProgramError as e:
            raise ProgramError(f"{i.opcode.name} in layer {i.layer} of core {core}: {e}") from None


def _instruction(i: _Instruction, graph: Graph, target: Target, weights: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Checks one instruction; returns the shape of the array's weights after it."""
    op, fields = i.opcode, OPERANDS[i.opcode]
    for field in ("out", "a", "b", "c"):
        index = int(i.record[field])
        _require(index < len(i.program.operands) if field in fields else index == NONE, f"operand '{field}' is missing or too much")
    epilogue = int(i.record["epilogue"])
    _require(epilogue < len(i.program.epilogues) if op in HAS_EPILOGUE else epilogue == NONE, "has no epilogue, or one too many")
    _require(int(i.record["flags"]) <= (1 if op == Opcode.MVM else 0), "has an unknown flag")
    if "out" in fields:
        i.writes()
    if op == Opcode.HOST:
        _require(0 <= i.imm[0] < len(graph.ops) and i.imm[0] == i.layer, "asks the host for another layer")
        _require(isinstance(graph.ops[i.imm[0]], ir.Island), "asks the host to run what is no island")
    elif op == Opcode.LOADW:
        shape = i.shape("a")
        _require(len(shape) == 2 and -128 <= i.imm[0] <= 127, "loads weights that are no matrix")
        _require(shape[0] <= target.array.rows and shape[1] <= target.array.columns, "loads more weights than the array has cells")
        return shape
    elif op == Opcode.MVM:
        _mvm(i, weights)
    elif op in _SHAPES:
        _SHAPES[op](i)
    if op in HAS_EPILOGUE:
        _epilogue_shapes(i, i.shape("out"), epilogue)
    return weights


def _mvm(i: _Instruction, weights: tuple[int, ...] | None) -> None:
    out, a, pixels = i.shape("out", Kind.INT32), i.shape("a"), i.imm[0]
    _require(weights is not None, "multiplies before weights are loaded")
    assert weights
    _require(1 <= pixels < len(a) and len(out) == pixels + 1 and out[:-1] == a[:pixels], "has operands of other shapes")
    _require(int(np.prod(a[pixels:], dtype=np.int64)) == weights[0] and out[-1] == weights[1], "does not match the array's weights")
    _require(-128 <= i.imm[1] <= 127, "has an impossible zero point")


def _same(i: _Instruction) -> None:
    kind = Kind(i.kind("out"))
    _require(i.shape("out", kind) == i.shape("a", kind), "copies between different shapes")


def _fill(i: _Instruction) -> None:
    i.shape("out")
    _require(-128 <= i.imm[0] <= 127, "fills with what is no code")


def _gather(i: _Instruction) -> None:
    out, a, b, axis = i.shape("out"), i.shape("a"), i.shape("b", Kind.INT32), i.imm[0]
    _require(0 <= axis < len(a) and len(b) == 1 and out == (*a[:axis], b[0], *a[axis + 1 :]), "gathers between different shapes")
    index = const_values(i.program, int(i.record["b"]))
    _require(bool(((index >= 0) & (index < a[axis])).all()), "gathers from outside its operand")


def const_values(program: Program, index: int) -> NDArray[Any]:
    """A dense int32 operand in the parameters, as an array; ProgramError if it does not lie there."""
    row = program.operands[index]
    buffer, rank = program.buffers[row["buffer"]], int(row["rank"])
    shape = tuple(int(d) for d in row["shape"][:rank])
    start = int(buffer["offset"]) + int(row["offset"])
    count = int(np.prod(shape, dtype=np.int64))
    dense = all(int(s) == 4 * int(np.prod(shape[a + 1 :], dtype=np.int64)) for a, s in enumerate(row["strides"][:rank]))
    inside = int(buffer["space"]) == Space.CONST and start + 4 * count <= len(program.constants)
    _require(dense and inside, "takes its indices from elsewhere than the parameters")
    return np.frombuffer(memoryview(program.constants)[start : start + 4 * count], "<i4").reshape(shape)


def _dwconv(i: _Instruction) -> None:
    out, a, b = i.shape("out", Kind.INT32), i.shape("a"), i.shape("b")
    _require(len(a) == 5 and out == a[:3] and b == a[2:], "has operands of other shapes")


def _reduce(i: _Instruction) -> None:
    kept, largest = i.imm[0], i.imm[1]
    out, a = i.shape("out", Kind.INT8 if largest else Kind.INT32), i.shape("a")
    _require(largest in (0, 1) and 0 <= kept <= len(a) and out == a[:kept], "has operands of other shapes")


def _requant(i: _Instruction) -> None:
    _require(i.shape("out") == i.shape("a", Kind.INT32), "has operands of other shapes")
    _require(int(i.program.epilogues[int(i.record["epilogue"])]["multiplier"]) != NONE, "has no multiplier")


def _table(i: _Instruction) -> None:
    _require(i.shape("out") == i.shape("a") and i.shape("b") == (256,), "has operands of other shapes")


def _pointwise(i: _Instruction) -> None:
    _require(i.shape("out") == i.shape("a") == i.shape("b"), "has operands of other shapes")
    _require(all(-128 <= z <= 127 for z in i.imm[:2]), "has an impossible zero point")


def _softmax(i: _Instruction) -> None:
    a = i.shape("a")
    _require(len(a) >= 1 and i.shape("out") == a and i.shape("b", Kind.INT32) == (256,), "has operands of other shapes")


def _resize(i: _Instruction) -> None:
    out, a = i.shape("out", Kind.INT32), i.shape("a")
    b, c = i.shape("b", Kind.INT32), i.shape("c", Kind.INT32)
    i.dense("a")
    _require(len(out) == len(a) == 3 and out[2] == a[2] and b == (4, out[0]) and c == (4, out[1]), "has operands of other shapes")


_SHAPES = {
    Opcode.DMA: _same,
    Opcode.FILL: _fill,
    Opcode.GATHER: _gather,
    Opcode.DWCONV: _dwconv,
    Opcode.REDUCE: _reduce,
    Opcode.REQUANT: _requant,
    Opcode.TABLE: _table,
    Opcode.ADD: _pointwise,
    Opcode.MUL: _pointwise,
    Opcode.SOFTMAX: _softmax,
    Opcode.RESIZE: _resize,
}


def _epilogue_shapes(i: _Instruction, out: tuple[int, ...], index: int) -> None:
    row = i.program.epilogues[index]
    for field, kind in (("bias", Kind.INT32), ("multiplier", Kind.FLOAT32)):
        if int(row[field]) != NONE:
            _require(i.use(int(row[field]), kind) == out, f"has a {field} of another shape")
    if int(row["table"]) != NONE:
        _require(i.use(int(row["table"]), Kind.INT8) == (256,), "has a table that has not 256 entries")


def _synchronisation(program: Program) -> None:
    """Plays signals and waits: all streams must come to their end."""
    kept = [s[(s["op"] == Opcode.SIGNAL) | (s["op"] == Opcode.WAIT)] for s in program.streams]
    at, semaphores, moved = [0] * len(kept), dict[int, int](), True
    while moved:
        moved = False
        for core, stream in enumerate(kept):
            while at[core] < len(stream):
                record = stream[at[core]]
                semaphore, count = int(record["imm"][0]), int(record["imm"][1])
                if record["op"] == Opcode.SIGNAL:
                    semaphores[semaphore] = semaphores.get(semaphore, 0) + 1
                elif semaphores.get(semaphore, 0) < count:
                    break
                at[core] += 1
                moved = True
    _require(all(i == len(s) for i, s in zip(at, kept, strict=True)), "the cores wait for each other forever")
