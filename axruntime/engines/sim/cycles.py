"""How many cycles a program takes: the figures of a frame, from the clock's event-level simulation (clock/).

The time does not depend on data, so it is counted once from the program and the target. Figures that the vendor has not published are
assumptions of the target file; docs/aipu.md names them.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

from axforge.axcompiler.program import Program
from axforge.axcompiler.target import Target
from axforge.axruntime.engines.sim.clock.frame import PlayedFrame, play
from axforge.axruntime.engines.sim.clock.tasks import UNITS


@dataclass(frozen=True)
class LayerCycles:
    """One layer. start, end: cycles since the frame began; layers overlap. cycles: by how much it delays the end of all before it.

    busy: cycles that each unit was taken, of all cores together. macs: products the array and the DWPU were asked for.
    """

    name: str
    start: int
    end: int
    cycles: int
    busy: dict[str, int]
    macs: int


@dataclass(frozen=True)
class Cycles:
    """A frame. total: cycles from the first instruction to the last. transfer: cycles in which inputs and outputs cross PCIe.

    ends: cycles of the host for islands at the head and the tail. copies: frames that are worked on side by side, each by a program like
    this.
    """

    total: int
    transfer: int
    ends: int
    clock_hz: int
    peak_macs: int
    cores: int
    copies: int
    layers: tuple[LayerCycles, ...]

    @property
    def frames_per_second(self) -> float:
        """What AIPU and PCIe sustain: transfers of one frame run while another is worked on, and so does the host on head and tail."""
        slowest = max(self.total, self.transfer * self.copies)
        return self.copies * self.clock_hz / slowest if slowest else float("inf")

    @property
    def latency_ms(self) -> float:
        """Milliseconds from an input at the host to its outputs there: head, transfers, AIPU and tail, one after the other."""
        return (self.total + self.transfer + self.ends) / self.clock_hz * 1e3

    @property
    def utilisation(self) -> float:
        """Products made, of those the arrays of all cores could have made."""
        return sum(layer.macs for layer in self.layers) / (self.total * self.peak_macs * self.cores) if self.total else 0.0

    def layer_utilisation(self, layer: LayerCycles) -> float:
        """The same for the cycles one layer adds."""
        return layer.macs / (layer.cycles * self.peak_macs * self.cores) if layer.cycles else 0.0


def count_cycles(program: Program, target: Target, copies: int = 1) -> Cycles:
    """Cycles of one frame of a checked program. copies: as for `clock.frame.play`."""
    return cycles_of(play(program, target, copies), program, target, copies)


def cycles_of(frame: PlayedFrame, program: Program, target: Target, copies: int = 1) -> Cycles:
    """The figures of a frame that was played with so many copies."""
    array = target.array
    return Cycles(
        total=frame.total,
        transfer=math.ceil(sum(math.prod(port.shape) for port in program.header.ports.values()) / target.pcie_bytes_per_cycle),
        ends=len(frame.ends) * target.host_cycles,
        clock_hz=target.clock_hz,
        peak_macs=array.rows * array.columns // array.cycles_per_vector,
        cores=len(frame.streams),
        copies=copies,
        layers=_layers(program.header.layers, frame),
    )


def _layers(names: tuple[str, ...], frame: PlayedFrame) -> tuple[LayerCycles, ...]:
    """The figures of each layer from the times of its tasks."""
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    busy: list[dict[str, float]] = [defaultdict(float) for _ in names]
    macs = [0] * len(names)
    for task in frame.tasks():
        spans[task.layer].append((task.start, task.end))
        busy[task.layer][UNITS[task.unit]] += task.end - task.start
        macs[task.layer] += task.macs
    for layer, start, end in frame.host:
        spans[layer].append((start, end))
    out, last = [], 0
    for i, name in enumerate(names):
        start = math.floor(min((a for a, _ in spans[i]), default=0))
        stop = math.ceil(max((b for _, b in spans[i]), default=0) - 1e-3)
        end = max(last, stop)
        worked = {unit: round(cycles) for unit, cycles in sorted(busy[i].items())}
        out.append(LayerCycles(name, start, stop, end - last, worked, macs[i]))
        last = end
    return tuple(out)
