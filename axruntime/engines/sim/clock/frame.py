"""A frame as the clock played it: every task with its start and end."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from axforge.axcompiler.program import Program
from axforge.axcompiler.target import Target
from axforge.axruntime.engines.sim.clock.events import Bandwidth, Command, Simulation, Task
from axforge.axruntime.engines.sim.clock.tasks import UNITS, TaskBuilder


@dataclass(frozen=True)
class PlayedFrame:
    """streams: tasks and commands of each core, the tasks with their times. host: (layer, start, end) of islands between AIPU layers.

    total: cycles from the first instruction to the last. ends: layers of islands at the head and the tail, which the host runs while the
    AIPU is at other frames.
    """

    streams: list[list[Task | Command]]
    host: list[tuple[int, float, float]]
    total: int
    ends: frozenset[int]

    def tasks(self) -> Iterator[Task]:
        """The tasks of all cores."""
        return (task for stream in self.streams for task in stream if isinstance(task, Task))


def play(program: Program, target: Target, copies: int = 1) -> PlayedFrame:
    """Play one frame of a checked program. copies: of it that run side by side, each on cores of its own, on one frame each.

    Copies share DDR and L2, and start together, so that weights come from DDR once for all of them.
    """
    builder = TaskBuilder(program, target)
    streams = builder.streams()
    bandwidth = Bandwidth(target.dma.ddr_total_bytes_per_cycle, target.dma.l2_total_bytes_per_cycle, copies)
    simulation = Simulation(streams, len(UNITS), bandwidth, target.issue_cycles, target.sync_cycles)
    total = math.ceil(simulation.run() - 1e-3)
    return PlayedFrame(streams, simulation.host, total, frozenset(builder.ends))
