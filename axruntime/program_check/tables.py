"""The tables of a program: buffers, operands, weight images, places and ports of tensors, epilogues."""

from bisect import bisect_left
from heapq import heappop, heappush

import numpy as np

from axforge.axcompiler.ir import Graph, Island
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import ITEMSIZE, MAX_RANK, NONE, Kind, Program, Space, image_size
from axforge.axruntime.program_check.rules import require

LIMIT = 1 << 40


def check_tables(program: Program, graph: Graph) -> None:
    """Raise ProgramError at the first rule that the tables of `program` break."""
    _buffers(program)
    _no_overlap(program.buffers)
    _operands(program)
    _images(program, graph)
    _places(program, graph)
    _ports(program, graph)
    _epilogues(program)


def require_zero(records: Array, fields: tuple[str, ...]) -> None:
    """Unused bytes of records are zero."""
    for field in fields:
        require(not any(records[field].tobytes()), "an unused field of a record is not zero")


def _buffers(program: Program) -> None:
    b, header = program.buffers, program.header
    require_zero(b, ("zero", "pad"))
    require(bool((b["space"] <= Space.L1).all()), "a buffer is in no memory")
    require(bool((b["core"][b["space"] != Space.L1] == 0).all()), "a shared buffer belongs to a core")
    require(bool((b["core"] < header.cores).all()), "a buffer is in the L1 of a core that is not used")
    require(bool(((b["offset"] < LIMIT) & (b["size"] >= 1) & (b["size"] < LIMIT)).all()), "a buffer has an impossible size")
    sizes = np.array([header.const_size, header.ddr_size, header.l2_size, header.l1_size], np.uint64)
    require(bool((b["offset"] + b["size"] <= sizes[b["space"]]).all()), "a buffer ends beyond its memory")
    require(bool((b["first"] <= b["last"]).all()), "a buffer ends before it begins to live")
    require(len(program.constants) <= header.const_size, "the parameters are longer than their memory")


def _no_overlap(b: Array) -> None:
    """Buffers of one memory may share bytes only if they never live together."""
    for space, core in sorted({(int(s), int(c)) for s, c in zip(b["space"], b["core"], strict=True)}):
        if space == Space.CONST:
            continue
        rows = b[(b["space"] == space) & (b["core"] == core)]
        if space == Space.L1:  # one layer each: compare within a layer
            order = np.lexsort((rows["offset"], rows["first"]))
            rows = rows[order]
            same = rows["first"][1:] == rows["first"][:-1]
            require(bool((rows["first"] == rows["last"]).all()), "a buffer in L1 lives longer than a layer")
            ends = rows["offset"][:-1] + rows["size"][:-1]
            require(not np.any(same & (ends > rows["offset"][1:])), "two buffers in L1 share memory")
            continue
        _share_no_byte(rows)


def _share_no_byte(rows: Array) -> None:
    """Sweep over time: the buffers that live at once are kept sorted by offset, so a new one can only meet its two neighbours there."""
    starts: list[int] = []
    stops: list[int] = []
    ending: list[tuple[int, int]] = []  # a heap of (last layer, offset) of the buffers that live
    order = np.argsort(rows["first"], kind="stable")
    columns = (rows[field][order].tolist() for field in ("offset", "size", "first", "last"))
    for offset, size, first, last in zip(*columns, strict=True):
        while ending and ending[0][0] < first:
            gone = bisect_left(starts, heappop(ending)[1])
            del starts[gone], stops[gone]
        at = bisect_left(starts, offset)
        apart = (at == 0 or stops[at - 1] <= offset) and (at == len(starts) or starts[at] >= offset + size)
        require(apart, "two buffers that live together share memory")
        starts.insert(at, offset)
        stops.insert(at, offset + size)
        heappush(ending, (last, offset))


def _operands(program: Program) -> None:
    o = program.operands
    require_zero(o, ("zero", "pad"))
    require(bool((o["buffer"] < len(program.buffers)).all()), "an operand is in no buffer")
    require(bool((o["kind"] <= Kind.FLOAT32).all() and (o["rank"] <= MAX_RANK).all()), "an operand has no known type or rank")
    used = np.arange(MAX_RANK) < o["rank"][:, None]
    shape, strides = o["shape"].astype(np.int64), o["strides"]
    require(bool((shape[used] >= 1).all() and (shape[~used] == 0).all() and (strides[~used] == 0).all()), "an operand has an empty axis")
    require(bool((np.abs(strides) < LIMIT).all() and (np.abs(o["offset"]) < LIMIT).all()), "an operand has an impossible stride or offset")
    reach = np.where(used, (shape - 1).astype(np.float64) * strides, 0.0)
    require(bool((np.abs(reach) < 2.0**52).all()), "an operand reaches too far")
    exact = np.where(used, (shape - 1) * strides, 0)
    item = np.array([ITEMSIZE[k] for k in Kind], np.int64)[o["kind"]]
    low = o["offset"] + np.minimum(exact, 0).sum(axis=1)
    high = o["offset"] + np.maximum(exact, 0).sum(axis=1) + item
    size = program.buffers["size"][o["buffer"]].astype(np.int64)
    require(bool(((low >= 0) & (high <= size)).all()), "an operand reaches outside its buffer")
    base = program.buffers["offset"][o["buffer"]].astype(np.int64) + o["offset"]
    aligned = (base % item == 0) & ((strides % item[:, None] == 0).all(axis=1))
    require(bool(aligned.all()), "an operand of words of 4 bytes is not aligned to them")
    elements = np.prod(np.where(used, shape, 1).astype(np.float64), axis=1)
    require(bool((elements < 2.0**31).all()), "an operand has more elements than 32 bits count")


def _images(program: Program, graph: Graph) -> None:
    end = len(program.constants)
    for image in program.header.images:
        require(image.constant in graph.constants, f"there is no constant '{image.constant}'")
        shape = graph.constants[image.constant].shape
        ranks = {"plain": len(shape), "dense": 2, "depthwise": 4, "conv": 4, "transposed": 4}
        require(graph.constants[image.constant].dtype == np.int8, f"constant '{image.constant}' is not a weight")
        require(ranks.get(image.form) == len(shape), f"constant '{image.constant}' does not have the shape of form '{image.form}'")
        if image.form in ("conv", "transposed"):
            groups, fold = image.groups, image.fold
            require(groups >= 1 and fold >= 1 and groups % fold == 0 and shape[0] % groups == 0, f"'{image.constant}' does not fold")
            deep = shape[1] if image.form == "conv" else shape[0] // groups
            require(deep * fold <= image.channels <= deep * fold + 64, f"'{image.constant}' does not fit its channels")
        else:
            require(image.form != "depthwise" or shape[1] == 1, f"'{image.constant}' is not a depthwise weight")
        require(image.offset >= end, f"constant '{image.constant}' overlaps another")
        end = image.offset + image_size(shape, image)
    require(end <= program.header.const_size, "the weights end beyond their memory")


def _places(program: Program, graph: Graph) -> None:
    header = program.header
    quantized = {n for n, t in graph.tensors.items() if t.quant and 0 not in t.shape}
    require(set(header.places) == quantized, "the places are not those of the graph's tensors")
    for name, index in header.places.items():
        require(0 <= index < len(program.operands), f"tensor '{name}' has no place")
        row = program.operands[index]
        shape = tuple(int(d) for d in row["shape"][: int(row["rank"])])
        require(shape == graph.tensors[name].shape and row["kind"] == Kind.INT8, f"tensor '{name}' has another shape in memory")


def _ports(program: Program, graph: Graph) -> None:
    header = program.header
    for name, port in header.ports.items():
        require(name in graph.tensors and graph.tensors[name].quant, f"'{name}' is not a quantized tensor")
        require(len(port.pads) == 8 and min(*port.pads, *port.shape) >= 0, f"the port of '{name}' is malformed")
        require(-128 <= port.fill <= 127, f"the port of '{name}' is not filled with a code")
        if name in header.places:
            buffer = program.buffers[program.operands[header.places[name]]["buffer"]]
            require(int(np.prod([float(d) for d in port.shape])) <= buffer["size"], f"the port of '{name}' is larger than its buffer")
            require(buffer["space"] == Space.DDR, f"the host cannot reach '{name}'")
    for name in _host_written(graph):
        if name in header.places:
            require(name in header.ports, f"the host has no port for '{name}'")


def _host_written(graph: Graph) -> list[str]:
    """Quantized tensors that the host writes: inputs, and results of islands."""
    made = [n for op in graph.ops if isinstance(op, Island) for n in op.outputs]
    return [n for n in (*graph.inputs, *made) if graph.tensors[n].quant]


def _epilogues(program: Program) -> None:
    e = program.epilogues
    require_zero(e, ("pad",))
    ok = (e["lo"] >= -128) & (e["lo"] <= e["hi"]) & (e["hi"] <= 127) & (e["zero_point"] >= -128) & (e["zero_point"] <= 127)
    require(bool(ok.all()), "an epilogue has impossible bounds")
    for field in ("bias", "multiplier", "table"):
        require(bool(((e[field] == NONE) | (e[field] < len(program.operands))).all()), f"an epilogue's {field} is not an operand")
