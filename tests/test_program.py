"""Programs survive their bytes, and each rule that a reader checks is really checked."""

import itertools
from bisect import bisect_left
from contextlib import nullcontext
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from graphs import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import program as prog
from axforge.axcompiler import target
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import NONE, Space, WeightImage, decode, image_size, to_bytes, weight_image
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.program_check import ProgramError, check, tables
from axforge.axruntime.program_check.tables import _no_overlap

METIS = target.load("metis")
GRAPH = random_graph(11, ("conv", "add", "max_pool", "take", "island", "softmax"))
PROGRAM = compile_program(GRAPH, METIS, 2)[0]


def test_records_have_fixed_widths():
    assert (prog.INSTRUCTION.itemsize, prog.BUFFER.itemsize, prog.OPERAND.itemsize, prog.EPILOGUE.itemsize) == (64, 32, 128, 32)


def test_round_trip_and_determinism():
    data = to_bytes(PROGRAM)
    back = decode(data, where="x")
    check(back, GRAPH, METIS)
    assert to_bytes(back) == data == to_bytes(compile_program(GRAPH, METIS, 2)[0])
    assert back.header == PROGRAM.header


def edited(table, edit):
    """The program with one table changed in place by `edit`."""
    if table.startswith("core"):
        streams = [s.copy() for s in PROGRAM.streams]
        streams[int(table[4:])] = edit(streams[int(table[4:])])
        return replace(PROGRAM, streams=tuple(streams))
    return replace(PROGRAM, **{table: edit(getattr(PROGRAM, table).copy())})


def put(field, index, value):
    def edit(records):
        records[field][index] = value
        return records

    return edit


def first(opcode, core=0):
    return int(np.flatnonzero(PROGRAM.streams[core]["op"] == opcode)[0])


def repeated(operands, index):
    """A byte that is written a thousand million times."""
    operands["rank"][index], operands["shape"][index], operands["strides"][index] = 1, (10**9, *[0] * 7), (0,) * 8
    return operands


def l1_buffer():
    return int(np.flatnonzero(PROGRAM.buffers["space"] == Space.L1)[0])


@pytest.mark.parametrize(
    "table,edit,rule",
    [
        ("core0", put("op", 0, 99), "unknown instruction"),
        ("core0", put("zero", 0, 1), "not zero"),
        ("core0", put("layer", 0, 10_000), "no layer"),
        ("core0", put("layer", 0, 2), "out of order"),
        ("core0", put("out", first(Opcode.DMA), 1 << 20), "missing or too much"),
        ("core0", put("out", first(Opcode.DMA), NONE), "missing or too much"),
        ("core0", put("c", first(Opcode.DMA), 0), "missing or too much"),
        ("core0", put("epilogue", first(Opcode.REQUANT), 1 << 20), "epilogue"),
        ("core0", put("flags", first(Opcode.DMA), 1), "unknown flag"),
        ("core0", put("op", first(Opcode.LOADW), Opcode.END), "exactly one end"),
        ("core0", lambda s: s[:-1], "exactly one end"),
        ("core0", lambda s: np.delete(s, first(Opcode.LOADW)), "before weights are loaded|does not match"),
        ("core0", lambda s: s[s["op"] != Opcode.SIGNAL], "wait for each other"),
        ("core1", put("imm", first(Opcode.WAIT, 1), (0, 9, 0, 0)), "wait for each other"),
        ("core0", put("imm", first(Opcode.MVM), (7, 0, 0, 0)), "other shapes"),
        ("core0", put("imm", first(Opcode.HOST), (0, 0, 0, 0)), "another layer"),
        ("core0", put("imm", first(Opcode.HOST), (-1, 0, 0, 0)), "'operator' is out of range"),
        ("core0", put("imm", first(Opcode.FILL), (128, 0, 0, 0)), "'value' is out of range"),
        ("core0", put("imm", first(Opcode.DMA), (0, 0, 0, 1)), "unused immediate"),
        ("buffers", put("space", 0, 4), "no memory"),
        ("buffers", put("offset", l1_buffer(), 1 << 22), "beyond its memory"),
        ("buffers", put("size", l1_buffer(), 1 << 22), "beyond its memory|share memory"),
        ("buffers", put("core", l1_buffer(), 1), "another core's L1|share memory"),
        ("buffers", put("first", l1_buffer(), 3), "ends before it begins"),
        ("buffers", put("size", l1_buffer(), 0), "impossible size"),
        ("operands", put("buffer", 0, 1 << 20), "no buffer"),
        ("operands", put("offset", 0, 1 << 30), "outside its buffer"),
        ("operands", put("offset", 0, -64), "outside its buffer"),
        ("operands", put("kind", 0, 3), "no known type"),
        ("operands", put("rank", 0, 9), "no known type or rank"),
        ("operands", put("shape", 0, (-1, 0, 0, 0, 0, 0, 0, 0)), "empty axis"),
        ("operands", put("strides", 0, (1 << 45, 0, 0, 0, 0, 0, 0, 0)), "impossible stride"),
        ("operands", lambda o: repeated(o, int(PROGRAM.streams[0]["out"][first(Opcode.FILL)])), "more elements than its buffer"),
        ("epilogues", put("lo", 0, 200), "impossible bounds"),
        ("epilogues", put("bias", 0, 1 << 20), "not an operand"),
    ],
)
def test_each_rule_is_kept(table, edit, rule):
    check(PROGRAM, GRAPH, METIS)
    with pytest.raises(ProgramError, match=rule):
        check(edited(table, edit), GRAPH, METIS)


def test_weights_must_fit_the_array():
    small = msgspec.structs.replace(METIS, array=msgspec.structs.replace(METIS.array, rows=1))
    with pytest.raises(ProgramError, match="more weights than the array"):
        check(PROGRAM, GRAPH, small)


@pytest.mark.parametrize(
    "change,rule",
    [
        ({"layers": ("a",)}, "another graph"),
        ({"l1_size": 1 << 30}, "bytes of L1"),
        ({"l2_size": -1}, "bytes of L2"),
        ({"ddr_size": 1 << 40}, "bytes of DDR"),
        ({"cores": 9}, "for 9 cores"),
        ({"places": {}}, "not those of the graph"),
        ({"images": (WeightImage("nowhere", 0, "conv"),)}, "no constant 'nowhere'"),
        ({"ports": {}}, "no port"),
    ],
)
def test_each_rule_of_the_header_is_kept(change, rule):
    with pytest.raises(ProgramError, match=rule):
        check(replace(PROGRAM, header=msgspec.structs.replace(PROGRAM.header, **change)), GRAPH, METIS)


def test_overlapping_live_buffers_are_found():
    shared = np.flatnonzero((PROGRAM.buffers["space"] == Space.L2) | (PROGRAM.buffers["space"] == Space.DDR))
    rows = PROGRAM.buffers[shared]
    pairs = [
        (i, j)
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j and rows["space"][i] == rows["space"][j] and rows["first"][i] <= rows["last"][j] and rows["first"][j] <= rows["last"][i]
    ]
    assert pairs
    i, j = (int(shared[k]) for k in pairs[0])
    with pytest.raises(ProgramError, match=r"share memory|beyond its memory"):
        check(edited("buffers", put("offset", i, int(PROGRAM.buffers["offset"][j]))), GRAPH, METIS)


def test_a_section_that_is_no_whole_number_of_records_is_refused():
    data = to_bytes(PROGRAM)
    sections = {k: bytes(v) for k, v in prog.container.decode(data, prog.MAGIC, range(1, 2), where="", kind="").items()}
    for name in ("core0", "buffers", "operands", "epilogues"):
        broken = prog.container.encode(prog.MAGIC, prog.VERSION, sections | {name: sections[name][:-1]})
        with pytest.raises(FormatError, match="whole number"):
            decode(broken, where="x")
    with pytest.raises(FormatError, match="sections"):
        decode(prog.container.encode(prog.MAGIC, prog.VERSION, {k: v for k, v in sections.items() if k != "core1"}), where="x")


@pytest.mark.parametrize("form,groups,fold", [("conv", 1, 1), ("conv", 6, 1), ("conv", 6, 3), ("transposed", 2, 2)])
def test_weights_in_the_order_of_the_array(form, groups, fold):
    """The image times a patch equals the grouped convolution's sum, group by group."""
    rng = np.random.default_rng(0)
    cg, mg, kh, kw = 2, 3, 2, 3
    shape = (groups * mg, cg, kh, kw) if form == "conv" else (groups * cg, mg, kh, kw)
    weight = rng.integers(-127, 128, shape).astype(np.int8)
    image = WeightImage("w", 0, form, groups, fold, cg * fold)
    made = weight_image({"w": weight}, image)
    assert made.size == image_size(shape, image)
    plain = weight if form == "conv" else prog.as_conv_weight(weight, groups)
    patch = rng.integers(-128, 128, (kh, kw, groups * cg)).astype(np.int64)
    for m in range(groups * mg):
        g = m // mg
        expected = sum(int(patch[i, j, g * cg + c]) * int(plain[m, c, i, j]) for i in range(kh) for j in range(kw) for c in range(cg))
        block, column = divmod(m, mg * fold)
        x = patch[:, :, block * cg * fold : (block + 1) * cg * fold]
        assert int((x * made[block, :, :, :, column].astype(np.int64)).sum()) == expected


def shared_table(count: int) -> np.ndarray:
    """`count` buffers in DDR, each of 64 bytes and three layers long; every fourth lives where another one lived before."""
    table = np.zeros(count, prog.BUFFER)
    i = np.arange(count)
    table["space"], table["size"], table["offset"] = Space.DDR, 64, i % (count // 4) * 64
    table["first"] = i // (count // 4) * 3
    table["last"] = table["first"] + 2
    return table


def test_buffers_that_live_together_share_no_byte():
    table = shared_table(80)
    _no_overlap(table)
    for field, value in (("last", 3), ("size", 65), ("offset", 63)):
        bad = table.copy()
        bad[field][1] = value
        with pytest.raises(ProgramError, match="share memory"):
            _no_overlap(bad)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4), st.integers(0, 6), st.integers(0, 3)), max_size=7))
def test_the_sweep_finds_what_comparing_all_pairs_finds(rows):
    table = np.zeros(len(rows), prog.BUFFER)
    table["space"] = Space.L2
    for row, (offset, size, first, length) in zip(table, rows, strict=True):
        row["offset"], row["size"], row["first"], row["last"] = offset, size, first, first + length
    pairs = itertools.combinations(rows, 2)
    meet = any(a < c + d and c < a + b and f <= g + j and g <= f + h for (a, b, f, h), (c, d, g, j) in pairs)
    with pytest.raises(ProgramError, match="share memory") if meet else nullcontext():
        _no_overlap(table)


def test_many_buffers_are_compared_with_their_neighbours_only(monkeypatch):
    searches = []
    monkeypatch.setattr(tables, "bisect_left", lambda *args: searches.append(1) or bisect_left(*args))
    _no_overlap(shared_table(60_000))
    assert len(searches) <= 2 * 60_000
