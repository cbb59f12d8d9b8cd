"""The paths of aarch64, and the generic one compiled for it, give the reference's codes in an emulator (needs the package `unicorn`)."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import aarch64_model
from graphs import KINDS, feeds_for, graphs
from host_support import codes, conv_graph
from hypothesis import HealthCheck, given, settings
from test_host_matmul import product_graph

from axforge.axcompiler import numerics
from axforge.axcompiler.reference import Reference
from axforge.axruntime.engines.host.codegen.features import PATHS
from axforge.axruntime.engines.host.codegen.params import ARENA, CONSTS, SCRATCH
from axforge.axruntime.engines.host.native.compile import assembly, build
from axforge.axruntime.engines.host.planning.plan import make

unicorn = pytest.importorskip("unicorn", reason="needs the aarch64 emulator of the package unicorn")
arm64 = pytest.importorskip("unicorn.arm64_const")

CODE, STACK, END = 0x1000_0000, 0x2000_0000, 0x7000_0000
REGISTERS = [getattr(arm64, f"UC_ARM64_REG_X{i}") for i in range(7)]


class Machine:
    """Memory that grows by whole arrays, and calls into code."""

    def __init__(self, block):
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        # the core with all extensions that the emulator knows
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_MAX)
        self.next = 0x3000_0000
        self.uc.mem_map(CODE, -(-len(block) // 4096) * 4096)
        self.uc.mem_write(CODE, block)
        self.uc.mem_map(STACK, 1 << 20)
        self.uc.mem_map(END, 4096)
        # CPACR_EL1.FPEN: vector instructions are allowed
        self.uc.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)

    def put(self, array):
        at, size = self.next, -(-max(array.nbytes, 1) // 4096) * 4096
        self.uc.mem_map(at, size)
        self.uc.mem_write(at, array.tobytes())
        self.next += size + 4096
        return at

    def call(self, offset, *arguments):
        for register, value in zip(REGISTERS, arguments, strict=False):
            self.uc.reg_write(register, int(value))
        self.uc.reg_write(arm64.UC_ARM64_REG_SP, STACK + (1 << 20) - 64)
        self.uc.reg_write(arm64.UC_ARM64_REG_LR, END)
        self.uc.emu_start(CODE + offset, END)


ISAS = [isa for isa in PATHS if not isa.x86]


def run_emulated(graph, feeds, isa):
    plan = make(graph, isa)
    code = build(plan.kernels, isa, "aarch64-unknown-linux-gnu")
    machine = Machine(code.block)
    constants = np.zeros(plan.constants.size + 256, np.uint8)
    plan.constants.move(constants)
    params = machine.put(plan.params)
    addresses = np.array(code.offsets) + CODE
    # the alternatives, which take and give codes
    kernel, at, flag = plan.calls[:, 1].T
    program = np.stack([addresses[kernel], at + params, flag], axis=1).astype(np.int64)
    bases = np.zeros(plan.arrays, np.int64)
    bases[ARENA], bases[CONSTS] = machine.put(np.random.default_rng(0).integers(0, 256, plan.arena, np.uint8)), machine.put(constants)
    bases[SCRATCH] = machine.put(np.zeros(1 << 16, np.uint8))
    for name, port in plan.entries.items():
        bases[port.array] = machine.put(np.ascontiguousarray(feeds[name]))
    outs = {name: machine.put(np.zeros(graph.tensors[name].shape, np.int8)) for name in plan.exits}
    for name, port in plan.exits.items():
        bases[port.array] = outs[name]
    barrier = machine.put(np.zeros(128, np.uint8))
    machine.call(code.offsets[-1], machine.put(bases), machine.put(program), len(program), 0, 1, barrier, 0)
    result = {}
    for name, at in outs.items():
        shape = graph.tensors[name].shape
        result[name] = np.frombuffer(bytes(machine.uc.mem_read(at, int(np.prod(shape)))), np.int8).reshape(shape)
    return result


every_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
SHAPES = {
    "dense": {"channels": 5, "out": 11, "height": 6, "width": 7, "kernel": 3, "pad": 1, "table": True},
    "pointwise": {"channels": 16, "out": 24, "height": 5, "width": 5},
    "wide": {"channels": 48, "out": 37, "height": 4, "width": 9, "table": True},
    "few channels": {"channels": 32, "out": 3, "height": 5, "width": 7, "kernel": 3, "stride": 2, "pad": 1},
    "depthwise": {"channels": 18, "out": 18, "height": 6, "width": 6, "kernel": 3, "stride": 2, "pad": 1, "groups": 18, "bounds": (-3, 90)},
    "first layer": {"channels": 3, "out": 8, "height": 12, "width": 12, "kernel": 6, "stride": 2, "pad": 2, "extreme": True, "scale": 1e-5},
}


def assert_emulated_equals_reference(graph, feeds, isa):
    expected = Reference(graph).run(feeds, raw=True)
    for name, value in run_emulated(graph, feeds, isa).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@every_isa
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_aarch64_code_equals_the_reference(isa, shape):
    graph = conv_graph(**shape)
    assert_emulated_equals_reference(graph, codes(graph), isa)


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa.arm], ids=lambda isa: isa.name)
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_inner_loop_keeps_its_sums_in_registers(isa, kernel):
    """A turn of the loop of a wide layer is products and loads of operands; at most one pair of registers goes to the stack and back."""
    graph = aarch64_model.convolution(64, 64, kernel)
    loop = aarch64_model.inner_loop(assembly(make(graph, isa).kernels, isa, "aarch64-unknown-linux-gnu"))
    products = [line for line in loop if aarch64_model.is_product(line)]
    assert len(products) >= 72
    assert len(loop) <= 1.4 * len(products)
    assert sum("[sp" in line for line in loop) <= 2


@every_isa
@pytest.mark.parametrize("scale", [1.5e38, 1e10, 0.0], ids=str)
def test_extreme_multipliers(isa, scale):
    graph = conv_graph(**SHAPES["pointwise"], scale=scale)
    with np.errstate(over="ignore"):
        assert_emulated_equals_reference(graph, codes(graph), isa)


@every_isa
@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("shape", ["pointwise", "depthwise"])
def test_weights_at_the_edge_of_16_bits(isa, weight, shape):
    """Two products of -128 and -128 do not fit int16: the path that adds two of them there would be wrong."""
    graph = conv_graph(**SHAPES[shape], scale=1e-5)
    graph.constants["w"][...] = weight
    for code in (-128, 127):
        assert_emulated_equals_reference(graph, {"x": np.full(graph.tensors["x"].shape, code, np.int8)}, isa)


@every_isa
@pytest.mark.parametrize("swapped", [(False, False), (False, True)], ids=["", "b"])
@pytest.mark.parametrize(
    "shapes", [((1, 2, 13, 33), (1, 2, 33, 21)), ((2, 1, 5), (5, 17)), ((3, 40), (40, 9)), ((2, 9, 1), (2, 1, 4))], ids=str
)
def test_products_of_two_activations(isa, shapes, swapped):
    graph = product_graph(*shapes, zeros=(-128, 127), swapped=swapped, multiplier=1e-4)
    assert_emulated_equals_reference(graph, codes(graph), isa)
    assert_emulated_equals_reference(graph, codes(graph, extreme=True), isa)


@every_isa
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(max_ops=4, kinds=tuple(k for k in KINDS if k != "island")))
def test_every_operator_equals_the_reference(isa, graph):
    feeds = {}
    for name, value in feeds_for(graph).items():
        quant = graph.tensors[name].quant
        feeds[name] = value if value.dtype == np.int8 else numerics.quantize(value, quant.scale, quant.zero_point)
    assert_emulated_equals_reference(graph, feeds, isa)
