"""What a frame asks of a board: a few sums over a compiled program, each of which a board has a price for.

The vendor's runtime works on one frame a core, and each core has its share of L2. A program that was compiled for all cores together
does the same products and epilogues, so its sums serve: what several cores load alike counts once, and tensors that do not fit a core's
share of L2 count as moved to and from DDR.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.instruction import ExecutionUnit
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import DecodedInstruction, records
from axforge.axcompiler.program import Program, Space
from axforge.axcompiler.target import Target
from axforge.axruntime.engines.sim.clock.tasks import UNITS, TaskBuilder


@dataclass(frozen=True)
class Work:
    """A frame, all cores together.

    cycles: of the busiest unit of each layer, summed over the layers. ddr: bytes of activations that DDR moves. zeros: bytes that the
    weights of grouped convolutions have more when each is written as one dense matrix.
    layers: cycles of each unit that works in a layer, by the number of the layer.
    """

    cycles: int
    ddr: int
    zeros: int
    layers: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


def work_of(graph: Graph, program: Program, target: Target) -> Work:
    """The sums of a checked program of `graph`."""
    builder, totals = TaskBuilder(program, target), _Totals()
    for core, stream in enumerate(program.streams):
        for instruction in records(stream):
            if instruction.opcode.spec.unit is not ExecutionUnit.CONTROL:
                totals.add(builder, core, instruction)
    layers = totals.layers()
    return Work(
        cycles=sum(max(units.values()) for units in layers.values()),
        ddr=_ddr_traffic(program, target.memories.l2.usable // target.cores, totals.moved),
        zeros=sum(_zeros(graph, op) for op in graph.ops),
        layers=layers,
    )


@dataclass
class _Totals:
    """busy: cycles of each unit in each layer, of all cores together. moved: bytes that the DMA moves of each buffer.

    loads: of each layer and constant operand, the DMA's cycles on each core.
    """

    busy: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    moved: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    loads: dict[tuple[int, int], dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def add(self, builder: TaskBuilder, core: int, instruction: DecodedInstruction) -> None:
        """Count an instruction of a unit."""
        task = builder.task(core, instruction)
        cycles = task.cycles + (task.transfer.cycles if task.transfer else 0)
        source = instruction.operands.get("a")
        if task.transfer and source is not None and builder.operands.space[source] == Space.CONST:
            self.loads[task.layer, source][core] += cycles
            return
        self.busy[task.layer][task.unit] += cycles
        if task.transfer:
            for operand in instruction.operands.values():
                self.moved[builder.operands.buffer[operand]] += builder.operands.bytes(operand)

    def layers(self) -> dict[int, dict[str, int]]:
        """Cycles of each unit that works in a layer, of all cores together; what several cores load alike counts once."""
        loads: dict[int, int] = defaultdict(int)
        for (layer, _), cores in self.loads.items():
            loads[layer] += max(cores.values())
        found: dict[int, dict[str, int]] = {}
        for layer in sorted(self.busy.keys() | loads.keys()):
            units = {UNITS[unit]: cycles for unit, cycles in self.busy[layer].items()}
            units["in"] = units.get("in", 0) + loads[layer]
            found[layer] = units
        return found


def _ddr_traffic(program: Program, capacity: int, moved: Mapping[int, int]) -> int:
    """Bytes that the DMA moves to and from DDR: of what the host writes or reads, and of all that does not fit `capacity` bytes of L2.

    A buffer stays in L2 if there is room in all layers in which it lives. Of three orders (largest first, most bytes x layers first, in
    order of time, as in the compiler's planner) the one counts that leaves out fewest bytes.
    """
    hosts = {int(program.operands[program.header.places[name]]["buffer"]) for name in program.header.ports}
    rows = program.buffers
    shared = np.flatnonzero(np.isin(rows["space"], (int(Space.L2), int(Space.DDR)))).tolist()
    blocks = [_Block(i, int(rows["first"][i]), int(rows["last"][i]), int(rows["size"][i])) for i in shared if i not in hosts]
    orders: tuple[Callable[[_Block], tuple[int, ...]], ...] = (
        lambda b: (-b.size, b.first, b.index),
        lambda b: (-b.size * (b.last - b.first + 1), b.first, b.index),
        lambda b: (b.first, -b.size, b.index),
    )
    left_out = min((_left_out(sorted(blocks, key=order), capacity) for order in orders), key=lambda out: sum(b.size for b in out))
    return sum(moved.get(i, 0) for i in hosts) + sum(moved.get(b.index, 0) for b in left_out)


@dataclass(frozen=True)
class _Block:
    """A buffer of L2 or DDR: its number, the layers in which it lives, its bytes."""

    index: int
    first: int
    last: int
    size: int


def _left_out(blocks: Sequence[_Block], capacity: int) -> list[_Block]:
    """The blocks that find no room when they are taken in this order."""
    load = np.zeros(max((b.last for b in blocks), default=0) + 1, np.int64)
    out = []
    for block in blocks:
        span = slice(block.first, block.last + 1)
        if int(load[span].max()) + block.size > capacity:
            out.append(block)
        else:
            load[span] += block.size
    return out


def _zeros(graph: Graph, op: ir.Op) -> int:
    """Weights of a dense convolution of the same shape that a grouped one (a depthwise one apart) does not have."""
    if not isinstance(op, ir.Conv) or op.groups == 1:
        return 0
    weight = graph.constants[op.weight]
    return weight.size * (op.groups - 1) if weight.shape[1] > 1 else 0
