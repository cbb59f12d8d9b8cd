"""Frames per second on boards: the work of a frame is counted as docs/aipu.md says, and the benchmark finds the prices of boards."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from axforge.axcompiler import ir, target
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.prediction.boards import Board, Prediction, boards, predict
from axforge.axruntime.prediction.work import Work, work_of

METIS = target.load("metis")
Q = Quant(0.5, 0)
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def convolutions(size: int, channels: int, groups: int, count: int = 1) -> Graph:
    """`count` 3x3 convolutions, one after another."""
    shape, names = (1, channels, size, size), [f"t{i}" for i in range(count + 1)]
    return Graph(
        name="c",
        tensors={name: Tensor(shape, quant=Q) for name in names},
        ops=tuple(
            ir.Conv(
                name=f"c{i}",
                inputs=(a,),
                outputs=(b,),
                weight="w",
                bias="b",
                multiplier="m",
                epilogue=Epilogue(0),
                groups=groups,
                pads=(1, 1, 1, 1),
            )
            for i, (a, b) in enumerate(pairwise(names))
        ),
        inputs=(names[0],),
        outputs=(names[-1],),
        constants={
            "w": np.ones((channels, channels // groups, 3, 3), np.int8),
            "b": np.zeros(channels, np.int32),
            "m": np.ones(channels, np.float32),
        },
    )


def work(graph: Graph, cores: int = 1) -> Work:
    return work_of(graph, compile_program(graph, METIS, cores)[0], METIS)


def test_the_busiest_unit_counts():
    """512 channels of 32 x 32 pixels through nine 512 x 512 matrices: the array has most to do."""
    fast = msgspec.structs.replace(METIS, dma=msgspec.structs.replace(METIS.dma, ddr_bytes_per_cycle=64))
    graph = convolutions(32, 512, 1)
    assert work_of(graph, compile_program(graph, fast, 1)[0], fast).cycles == 9 * 32 * 32 * 8
    assert work(graph).cycles > 9 * 512 * 512 // METIS.dma.ddr_bytes_per_cycle  # with the bandwidth of one core, it is the DMA


def test_only_groups_of_several_channels_have_zeros():
    assert work(convolutions(8, 64, 1)).zeros == 0
    assert work(convolutions(8, 64, 64)).zeros == 0  # depthwise: no matrix
    assert work(convolutions(8, 64, 4)).zeros == 64 * 64 * 9 * 3 // 4


def test_what_fits_a_cores_share_of_l2_stays_there():
    """Of three small convolutions only input and output are in DDR; tensors of 8 MB each do not fit, and are written and read there."""
    small, large = convolutions(32, 64, 1, 3), convolutions(384, 64, 1, 3)
    assert 2 * 32 * 32 * 64 <= work(small).ddr < 3 * 34 * 34 * 64
    share = METIS.memories.l2.usable // METIS.cores
    assert share < 384 * 384 * 64
    assert work(large).ddr >= 6 * 384 * 384 * 64


def test_what_cores_load_alike_counts_once():
    one, four = (work(convolutions(16, 256, 1), cores) for cores in (1, 4))
    assert one.cycles <= four.cycles < 2 * one.cycles
    assert one.zeros == four.zeros


def test_a_board_charges_cycles_and_bytes():
    board = Board("b", "a board", "metis", 4, 800_000_000, pace=2.0, ddr=0.5, weights=0.25, slow=0.5, fast=1.5)
    assert board.frames_per_second(Work(1_000_000, 2_000_000, 4_000_000)) == pytest.approx(4 * 800e6 / (2e6 + 1e6 + 1e6))


def test_the_boards_are_sound():
    assert [board.name for board in boards()] == ["card", "m2"]
    for board in boards():
        assert target.load(board.target).cores == board.cores
        assert target.load(board.target).clock_hz == board.clock_hz
        assert 0 < board.slow < 1 < board.fast
        assert min(board.pace, board.ddr, board.weights) > 0


def test_a_prediction_is_a_range_on_each_board():
    graph = convolutions(32, 256, 1)
    card, module = predict(graph, compile_program(graph, METIS, 1)[0], METIS)
    assert card.low < card.likely < card.high
    assert module.likely < card.likely
    own = msgspec.structs.replace(METIS, name="own")
    assert predict(graph, compile_program(graph, own, 1)[0], own) == ()


@pytest.mark.parametrize(
    "low, high, text",
    [(641.2, 788, "640 to 790"), (7.24, 9.96, "7.2 to 10"), (12_345, 67_890, "12,000 to 68,000"), (99.7, 101, "100 to 100")],
)
def test_a_range_has_two_digits(low, high, text):
    assert str(Prediction(boards()[0], low, (low + high) / 2, high)) == f"{text} frames/s on the PCIe card"


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/aipu.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_aipu", BENCHMARKS / "aipu.py")
    assert spec
    assert spec.loader
    sys.path.insert(0, str(BENCHMARKS))
    try:
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_the_benchmark_finds_prices_in_spite_of_a_wild_figure(benchmark):
    rng = np.random.default_rng(3)
    rows, true = rng.uniform(1e5, 1e7, (40, 3)), np.array([0.9, 0.1, 0.2])
    cycles = rows @ true
    cycles[7] *= 5
    assert benchmark.prices(rows, cycles) == pytest.approx(true, rel=0.05)
    assert benchmark.prices(rows, rows @ np.array([1.0, -0.05, 0.1])).min() >= 0


def test_each_network_is_predicted_without_its_family(benchmark):
    """The figures of one family are four times too high: it is predicted as if they were not there."""
    rng = np.random.default_rng(4)
    names = [f"{family}{i}" for family in ("resnet_", "yolov8", "inception_", "unet_") for i in range(5)]
    work = {name: Work(*(int(v) for v in rng.uniform(1e6, 1e7, 3))) for name in names}
    board = msgspec.structs.replace(boards()[0], pace=1.0, ddr=0.2, weights=0.1)
    figures = {name: {"card": board.frames_per_second(work[name]) * (4 if name.startswith("unet") else 1)} for name in names}
    result = benchmark.fit(board, work, figures)
    off = [error for name, error in zip(result.names, result.errors, strict=True) if name.startswith("unet")]
    assert off == pytest.approx([0.75] * 5, rel=1e-3)


def test_families_and_ranks(benchmark):
    assert [benchmark.family(name) for name in ("yolov8n_obb", "yolo26x_seg", "regnety_1_6gf", "resnet_50_v1.5")] == [
        "yolov8",
        "yolo26",
        "regnet",
        "resnet",
    ]
    assert benchmark.slug("ResNet-50 v1.5") == "resnet_50_v1.5"
    assert benchmark.ranks(np.array([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]
