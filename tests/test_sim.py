"""The simulator runs the packed program and equals the NumPy reference bit for bit, on any number of cores."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from graphs import KINDS, Builder, feeds_for, graphs, random_graph
from hypothesis import example, given, settings
from hypothesis import strategies as st

from axforge.axcompiler import ir, target
from axforge.axcompiler.errors import AxforgeError, CompileError
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.program import INSTRUCTION, Program, decode, to_bytes
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.engines.sim.core import AccessError, AccumulatorFinish, Core, Scratch, executes
from axforge.axruntime.engines.sim.engine import SimEngine
from axforge.axruntime.engines.sim.machine import Machine
from axforge.axruntime.program_check import check

METIS = target.load("metis")


def packed(graph: Graph, cores: int, aipu: target.Target = METIS) -> Program:
    """The program after it went through its bytes, checked as a reader checks it."""
    program = decode(to_bytes(compile_program(graph, aipu, cores)[0]), where="test")
    check(program, graph, aipu)
    return program


def assert_equal(graph: Graph, cores: int, seed: int, aipu: target.Target = METIS) -> None:
    feeds = feeds_for(graph, seed)
    expected = Reference(graph).run(feeds, raw=True)
    engine = SimEngine(graph, packed(graph, cores, aipu))
    engine.machine.poison(seed)  # whatever is read before it is written becomes visible
    for _ in range(2):
        got = engine.run(feeds, raw=True)
        for name in graph.outputs:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=f"{name} on {cores} cores")


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 4), st.integers(0, 999))
def test_equals_reference_on_random_graphs(graph, cores, seed):
    assert_equal(graph, cores, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference_on_each_operator(kind):
    for seed in range(8):
        for cores in (1, 4):
            assert_equal(random_graph(seed, (kind,)), cores, seed)


def small_target(l1: int) -> target.Target:
    """Metis with only `l1` bytes of L1 and 16 KiB of L2, so that small graphs need many tiles and spill to DDR."""
    memories = target.Memories(target.Memory(l1, 0), target.Memory(16384, 0), METIS.memories.ddr)
    return msgspec.structs.replace(METIS, memories=memories)


def too_small(graph, cores, machine):
    """Whether a layer does not fit the machine's L1 in any way, which the compiler says in a sentence."""
    try:
        compile_program(graph, machine, cores)
    except CompileError as refused:
        if "does not fit: its smallest tile needs" not in str(refused):
            raise
        return True
    return False


@settings(max_examples=40, deadline=None)
@given(graphs(3), st.sampled_from([14_000, 20_000, 60_000]), st.integers(1, 4), st.integers(0, 999))
@example(random_graph(10537959, ["conv", "conv", "conv"]), 14_000, 1, 0)
def test_many_small_tiles_give_the_same_bits(graph, l1, cores, seed):
    """A few of these layers need more than the smaller memories whatever their tiles; the largest is enough for all."""
    if too_small(graph, cores, small_target(l1)):
        l1 = 60_000
    assert_equal(graph, cores, seed, small_target(l1))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), max_size=3),
    st.sampled_from([1, 2, 3, 63, 64, 65, 200, 1031]),
    st.integers(0, 999),
    st.integers(1, 4),
    st.sampled_from([14_000, 400_000]),
)
def test_rows_of_any_length_are_normalized(lead, depth, seed, cores, l1):
    builder = Builder(seed)
    graph = builder.finish(builder.add_layer_norm(builder.add_input([*lead, depth])))
    assert_equal(graph, cores, seed, small_target(l1))


def conv_graph(k: int, m: int, size: int, kernel: int, w: int) -> Graph:
    """A convolution of extreme codes and weights, so that sums reach the largest numbers."""
    pad = kernel // 2
    return Graph(
        name="deep",
        tensors={"x": Tensor((1, k, size, size), quant=Quant(1.0, -128)), "y": Tensor((1, m, size, size), quant=Quant(1.0, 0))},
        ops=(
            ir.Conv(
                name="conv",
                inputs=("x",),
                outputs=("y",),
                weight="w",
                bias="b",
                multiplier="m",
                pads=(pad,) * 4,
                epilogue=Epilogue(0),
            ),
        ),
        inputs=("x",),
        outputs=("y",),
        constants={
            "w": np.full((m, k, kernel, kernel), w, np.int8),
            "b": np.arange(m, dtype=np.int32),
            "m": np.full(m, 1e-6, np.float32),
        },
    )


@pytest.mark.parametrize(
    "k,m,kernel,w", [(512, 70, 1, 127), (513, 3, 3, -128), (1300, 520, 1, 127), (60, 1030, 3, -127), (3, 8, 7, 127), (700, 2, 5, 127)]
)
def test_sums_beyond_float32_stay_exact(k, m, kernel, w):
    graph = conv_graph(k, m, 5, kernel, w)
    feeds = {"x": np.full((1, k, 5, 5), 127, np.int8)}
    expected = Reference(graph).run(feeds, raw=True)["y"]
    for cores in (1, 3):
        np.testing.assert_array_equal(SimEngine(graph, packed(graph, cores)).run(feeds, raw=True)["y"], expected)


def test_a_deeper_array_is_exact_too():
    """The sum is near 2**25 and odd, which float32 cannot hold; bias brings it back to where every unit is a code."""
    deep = msgspec.structs.replace(METIS, array=msgspec.structs.replace(METIS.array, rows=2048))
    graph = conv_graph(1999, 3, 4, 1, 127)
    codes = np.full((1, 1999, 4, 4), 125, np.int8)
    total = int((codes[0, :, 0, 0].astype(np.int64) + 128).sum()) * 127
    constants = {**graph.constants, "b": np.array([1, 2, 3], np.int32) - total, "m": np.ones(3, np.float32)}
    graph = replace(graph, constants={n: np.asarray(v, graph.constants[n].dtype) for n, v in constants.items()})
    program = packed(graph, 1, deep)
    loads = program.operands[program.streams[0]["a"][program.streams[0]["op"] == Opcode.LOADW]]
    assert loads["shape"][:, 0].max() >= 1999
    got = SimEngine(graph, program, deep).run({"x": codes}, raw=True)["y"]
    assert got[0, :, 0, 0].tolist() == [1, 2, 3]


def test_float_inputs_are_quantized_and_outputs_dequantized():
    graph = random_graph(3, ("conv", "add"))
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(graph.tensors[n].shape).astype(np.float32) for n in graph.inputs}
    got, expected = SimEngine(graph, packed(graph, 2)).run(feeds), Reference(graph).run(feeds)
    for name in graph.outputs:
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], expected[name])


def test_a_missing_input_is_named():
    graph = random_graph(3, ("conv",))
    with pytest.raises(AxforgeError, match=f"input '{graph.inputs[0]}' is missing"):
        SimEngine(graph, packed(graph, 1)).run({})


def changed(program: Program, **tables: np.ndarray) -> Program:
    return Program(**({f: getattr(program, f) for f in Program.__dataclass_fields__} | tables))


def test_an_access_outside_the_plan_is_an_error():
    graph = random_graph(1, ("conv",))
    program = packed(graph, 1)
    operands = program.operands.copy()
    operands["offset"][int(program.streams[0]["out"][program.streams[0]["op"] == Opcode.MVM][0])] += 1 << 22
    with pytest.raises(AccessError, match="reaches bytes"):
        SimEngine(graph, changed(program, operands=operands))
    buffers = program.buffers.copy()
    buffers["first"] = buffers["last"] = 7
    with pytest.raises(AccessError, match="lives from 7 to 7"):
        SimEngine(graph, changed(program, buffers=buffers))


def test_parameters_and_weights_cannot_be_written():
    graph = random_graph(1, ("conv",))
    engine = SimEngine(graph, packed(graph, 1))
    const = next(i for i, b in enumerate(engine.program.buffers) if b["space"] == 0)
    with pytest.raises(ValueError, match="read-only"):
        engine.machine.region(const)[:] = 0


def test_cores_that_wait_forever_are_an_error():
    graph = random_graph(4, ("conv", "max_pool", "conv"))
    program = packed(graph, 2)
    streams = [s.copy() for s in program.streams]
    streams[0] = streams[0][streams[0]["op"] != Opcode.SIGNAL].astype(INSTRUCTION)
    with pytest.raises(AxforgeError, match="wait for each other"):
        SimEngine(graph, changed(program, streams=tuple(streams))).run(feeds_for(graph), raw=True)


def test_machine_memories_have_the_planned_sizes():
    graph = random_graph(2, ("conv", "max_pool"))
    program = packed(graph, 3)
    machine = Machine(program, np.zeros(program.header.const_size, np.uint8))
    for i in range(len(program.buffers)):
        assert machine.region(i).size == int(program.buffers["size"][i])


def normalized(codes: np.ndarray, parameters: np.ndarray, epsilon: float) -> np.ndarray:
    """What the instruction NORMALIZE makes of rows of codes."""
    out = np.zeros_like(codes)
    finish = AccumulatorFinish(3, -128, 127, None, None, None)
    executes[Opcode.NORMALIZE](Core(Scratch()), out, codes, parameters, epsilon, finish)()
    return out


def test_an_instruction_normalizes_rows():
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (4, 5, 37)).astype(np.int8)
    parameters = rng.normal(0, 20, (2, 37)).astype(np.float32)
    real = codes.astype(np.float64)
    spread = real.var(axis=-1, keepdims=True) + 2.5
    wanted = (real - real.mean(axis=-1, keepdims=True)) / np.sqrt(spread) * parameters[0] + parameters[1]
    found = normalized(codes, parameters, 2.5 * 37 * 37)
    assert np.abs(found - (np.clip(wanted, -131, 124) + 3)).max() <= 0.501


def test_a_constant_row_normalizes_to_the_offset():
    parameters = np.asarray([np.full(9, 50.0), np.arange(9)], np.float32)
    found = normalized(np.full((2, 9), -128, np.int8), parameters, 0.0)
    np.testing.assert_array_equal(found, np.tile(np.arange(9) + 3, (2, 1)))
