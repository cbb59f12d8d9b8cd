"""The tile stage: fits L1 or says which layer does not, shares work between cores, gives the same bytes again."""

import json

import numpy as np
import pytest
from graphs import random_graph

from axforge.axcompiler import graphfile, ir, target, tile
from axforge.axcompiler.errors import CompileError, FormatError
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.stages import TileConfig
from axforge.axcompiler.tile.context import lowers
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.cycles import count_cycles

METIS = target.load("metis")


def conv_net(size: int, channels: int, out: int) -> Graph:
    """One 3x3 convolution."""
    return Graph(
        name="net",
        tensors={
            "x": Tensor((1, channels, size, size), quant=Quant(0.125, 0)),
            "y": Tensor((1, out, size, size), quant=Quant(0.125, 0)),
        },
        ops=(ir.Conv(name="c", inputs=("x",), outputs=("y",), weight="w", bias="b", multiplier="m", pads=(1,) * 4, epilogue=Epilogue(0)),),
        inputs=("x",),
        outputs=("y",),
        constants={
            "w": np.ones((out, channels, 3, 3), np.int8),
            "b": np.zeros(out, np.int32),
            "m": np.full(out, 1e-4, np.float32),
        },
    )


def run(graph, folder, cores=1):
    graphfile.save(graph, folder / "graph.axgraph")
    tile.run({"graph.axgraph": folder / "graph.axgraph"}, TileConfig(cores=cores), folder)
    return (folder / "program.axprogram").read_bytes(), json.loads((folder / "schedule.json").read_text())


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    graph = random_graph(5, ("conv", "concat", "add", "resize_linear"))
    assert run(graph, tmp_path, 3) == run(graph, tmp_path, 3)


def test_schedule_tells_memory_and_work(tmp_path):
    _, schedule = run(conv_net(64, 32, 48), tmp_path, 4)
    assert schedule["cores"] == 4
    assert schedule["layers"][0]["multiply_adds"] == 64 * 64 * 48 * 32 * 9
    assert all(core["MVM"] >= 1 for core in schedule["layers"][0]["instructions"])
    memory = schedule["memory"]
    assert 0 < memory["l1_peak"] <= memory["l1_usable"]
    assert memory["ddr_peak"] >= memory["ddr_bound"] > 0


def test_every_tile_fits_l1():
    for graph in (conv_net(320, 64, 64), conv_net(20, 1024, 1024), conv_net(1024, 4, 16)):
        program, _ = compile_program(graph, METIS, 1)
        assert program.header.l1_size <= METIS.memories.l1.usable
        assert len(program.streams[0]) < 2000


def test_products_never_exceed_the_array():
    program, _ = compile_program(conv_net(20, 700, 1100), METIS, 2)
    for stream in program.streams:
        for record in stream[stream["op"] == Opcode.LOADW]:
            rows, columns = program.operands[record["a"]]["shape"][:2]
            assert rows <= 512
            assert columns <= 512


def test_four_cores_share_the_rows_and_are_faster():
    graph = conv_net(160, 64, 64)
    cycles = {cores: count_cycles(compile_program(graph, METIS, cores)[0], METIS).total for cores in (1, 2, 4)}
    assert cycles[4] < cycles[2] < cycles[1]
    assert cycles[1] >= 160 * 160 * 2 * 8  # 576 products a result: two array loads of 8 cycles a pixel


def test_a_layer_that_cannot_fit_says_which_and_what_it_needs():
    graph = Graph(
        name="wide",
        tensors={"x": Tensor((1, 5_000_000), quant=Quant(0.125, 0)), "y": Tensor((1, 5_000_000), quant=Quant(0.00390625, -128))},
        ops=(ir.Softmax(name="huge", inputs=("x",), outputs=("y",), axis=1, exponent="e", multiplier=256.0, epilogue=Epilogue(-128)),),
        inputs=("x",),
        outputs=("y",),
        constants={"e": np.full(256, 1 << 15, np.int32)},
    )
    with pytest.raises(CompileError, match=r"layer 'huge' does not fit: .* needs 10,.* bytes of L1, a core has 4,011,520") as caught:
        compile_program(graph, METIS, 1)
    assert "times smaller" in caught.value.fix


def test_tensors_too_large_for_l2_go_to_ddr():
    graph = conv_net(1024, 16, 16)
    relu = ir.Table(name="t", inputs=("y",), outputs=("z",), table="t")
    wide = Graph(
        name=graph.name,
        tensors={
            **graph.tensors,
            "y": Tensor((1, 48, 1024, 1024), quant=Quant(0.125, 0)),
            "z": Tensor((1, 48, 1024, 1024), quant=Quant(1.0, 0)),
        },
        ops=(graph.ops[0], relu),
        inputs=("x",),
        outputs=("z",),
        constants={
            "w": np.ones((48, 16, 3, 3), np.int8),
            "b": np.zeros(48, np.int32),
            "m": np.ones(48, np.float32),
            "t": np.arange(-128, 128).astype(np.int8),
        },
    )
    _, plan = compile_program(wide, METIS, 1)
    assert plan.report.spilled == ("y",)


def test_more_cores_than_there_are_is_an_error(tmp_path):
    with pytest.raises(CompileError, match="5 cores"):
        run(conv_net(8, 4, 4), tmp_path, 5)


def test_a_nearest_resize_is_two_copies_and_no_gather():
    shape = (1, 8, 6, 6)
    q = Quant(0.125, 0)
    index = np.repeat(np.arange(6), 2).astype(np.int32)
    graph = Graph(
        name="up",
        tensors={"x": Tensor(shape, quant=q), "h": Tensor((1, 8, 12, 6), quant=q), "y": Tensor((1, 8, 12, 12), quant=q)},
        ops=(
            ir.Take(name="a", inputs=("x",), outputs=("h",), axis=2, index="i"),
            ir.Take(name="b", inputs=("h",), outputs=("y",), axis=3, index="i"),
        ),
        inputs=("x",),
        outputs=("y",),
        constants={"i": index},
    )
    stream = compile_program(graph, METIS, 1)[0].streams[0]
    assert list(stream["op"]) == [Opcode.DMA, Opcode.DMA, Opcode.END]


def test_programs_of_a_damaged_graph_file_are_not_made(tmp_path):
    (tmp_path / "graph.axgraph").write_bytes(b"AXGRAPH\0 no")
    with pytest.raises(FormatError):
        tile.run({"graph.axgraph": tmp_path / "graph.axgraph"}, TileConfig(), tmp_path)
    assert not (tmp_path / "program.axprogram").exists()


def test_every_operator_has_one_lowering():
    assert set(lowers) == set(ir.OPERATORS.values())
    with pytest.raises(TypeError, match="two entries as a lowering"):
        lowers(ir.Conv)(lowers[ir.Conv])
