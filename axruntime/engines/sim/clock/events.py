"""The event-level simulation: units work in order, transfers share bandwidth, the control processor of each core issues and synchronises.

A task starts when it is issued, first in the queue of its unit, and all that it waits for is done. A transfer then runs at full speed,
or, where the transfers under way ask more of DDR or L2 than there is, at the share that is left for each in proportion to what it asks.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from axforge.axruntime.engines.sim.clock.transfers import Transfer


@dataclass(eq=False, slots=True)
class Task:
    """An instruction of a unit. cycles: before, or without, its transfer.

    waits: how many tasks it waits for that are not done yet; followers: tasks that wait for it.
    """

    core: int
    layer: int
    unit: int
    cycles: int
    transfer: Transfer | None
    macs: int = 0
    waits: int = 0
    followers: list["Task"] = field(default_factory=list)
    issued: float = -1.0
    start: float = -1.0
    end: float = -1.0
    left: float = 0.0
    speed: float = 1.0

    def after(self, other: "Task") -> None:
        """Wait for `other`."""
        other.followers.append(self)
        self.waits += 1


class Control(Enum):
    """What the control processor of a core does itself."""

    SIGNAL = 0
    WAIT = 1
    HOST = 2


@dataclass(frozen=True, slots=True)
class Command:
    """A control instruction: number of the semaphore and count, or cycles of the host."""

    control: Control
    layer: int
    semaphore: int = 0
    count: int = 0
    cycles: int = 0


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a cycle of DDR and L2 for all transfers together.

    copies: programs that run side by side, this one of them; weights come once for all.
    """

    ddr: float
    l2: float
    copies: int = 1


@dataclass
class _Core:
    """at: next instruction. time: of the control processor.

    open: issued tasks that are not done. waits: the semaphore, if it waits for one.
    """

    stream: Sequence[Task | Command]
    at: int = 0
    time: float = 0.0
    open: int = 0
    waits: int = -1


class Simulation:
    """Plays the streams of all cores."""

    #: a transfer is done when less than this is left of it, in cycles
    _NOTHING: ClassVar[float] = 1e-6

    def __init__(self, streams: Sequence[Sequence[Task | Command]], units: int, bandwidth: Bandwidth, issue: int, sync: int) -> None:
        self._cores = [_Core(stream) for stream in streams]
        self._queues: list[list[list[Task]]] = [[[] for _ in range(units)] for _ in streams]
        self._heads = [[0] * units for _ in streams]
        self._bandwidth, self._issue_cycles, self._sync = bandwidth, issue, sync
        self._events: list[tuple[float, int, str, object]] = []
        self._count = 0
        self._semaphores: dict[int, int] = defaultdict(int)
        self._moving: list[Task] = []
        self._moved_at, self._version = 0.0, 0
        self.now = 0.0
        #: (layer, start, end) of what the host does
        self.host: list[tuple[int, float, float]] = []

    def run(self) -> float:
        """The time at which the last core is done; the tasks then have their starts and ends."""
        for core in range(len(self._cores)):
            self._issue(core)
        while self._events:
            self.now, _, kind, what = heapq.heappop(self._events)
            getattr(self, f"_on_{kind}")(what)
        return max(self.now, *(core.time for core in self._cores))

    def _at(self, time: float, kind: str, what: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, kind, what))

    # ---- control processors

    def _issue(self, number: int) -> None:
        """Issue instructions of a core until one has to wait."""
        core = self._cores[number]
        core.time = max(core.time, self.now)
        while core.at < len(core.stream):
            what = core.stream[core.at]
            if isinstance(what, Command):
                if core.open or not self._command(number, core, what):
                    return
            else:
                core.time += self._issue_cycles
                core.open += 1
                what.issued = core.time
                self._queues[number][what.unit].append(what)
                self._try(number, what.unit)
            core.at += 1

    def _command(self, number: int, core: _Core, command: Command) -> bool:
        """Run a control instruction; False if the core waits, and then runs it again or goes on by an event."""
        if command.control is Control.SIGNAL:
            self._at(core.time + self._sync, "signal", command.semaphore)
        elif command.control is Control.WAIT:
            core.waits = command.semaphore if self._semaphores[command.semaphore] < command.count else -1
            return core.waits < 0
        else:
            self.host.append((command.layer, core.time, core.time + command.cycles))
            core.at += 1
            core.time += command.cycles
            self._at(core.time, "resume", number)
            return False
        return True

    def _on_signal(self, semaphore: object) -> None:
        assert isinstance(semaphore, int)
        self._semaphores[semaphore] += 1
        for number, core in enumerate(self._cores):
            if core.waits == semaphore:
                self._issue(number)

    def _on_resume(self, number: object) -> None:
        assert isinstance(number, int)
        self._issue(number)

    # ---- units

    def _try(self, core: int, unit: int) -> None:
        """Start the first task of a unit's queue, if it can start."""
        queue, head = self._queues[core][unit], self._heads[core][unit]
        if head == len(queue):
            return
        task = queue[head]
        if task.waits or task.start >= 0:
            return
        task.start = max(self.now, task.issued)
        self._at(task.start + task.cycles, "done" if task.transfer is None else "move", task)

    def _on_done(self, task: object) -> None:
        assert isinstance(task, Task)
        task.end = self.now
        self._heads[task.core][task.unit] += 1
        self._try(task.core, task.unit)
        for follower in task.followers:
            follower.waits -= 1
            if follower.issued >= 0:
                self._try(follower.core, follower.unit)
        core = self._cores[task.core]
        core.open -= 1
        if not core.open:
            self._issue(task.core)

    # ---- transfers

    def _on_move(self, task: object) -> None:
        assert isinstance(task, Task)
        assert task.transfer
        self._advance()
        task.left = float(task.transfer.cycles)
        self._moving.append(task)
        self._share()

    def _on_moved(self, version: object) -> None:
        if version != self._version:
            return
        self._advance()
        done = [task for task in self._moving if task.left < self._NOTHING]
        self._moving = [task for task in self._moving if task.left >= self._NOTHING]
        self._share()
        for task in done:
            self._on_done(task)

    def _advance(self) -> None:
        """Take what has been moved since the last change from what is left."""
        for task in self._moving:
            task.left -= (self.now - self._moved_at) * task.speed
        self._moved_at = self.now

    def _share(self) -> None:
        """Give each transfer under way its speed, and say when the first of them will be done."""
        self._version += 1
        if not self._moving:
            return
        copies, ddr, l2 = self._bandwidth.copies, 0.0, 0.0
        for task in self._moving:
            assert task.transfer
            ddr += task.transfer.ddr * copies + task.transfer.weights
            l2 += task.transfer.l2 * copies
        of_ddr = min(1.0, self._bandwidth.ddr / ddr) if ddr else 1.0
        of_l2 = min(1.0, self._bandwidth.l2 / l2) if l2 else 1.0
        first = float("inf")
        for task in self._moving:
            assert task.transfer
            task.speed = min(of_ddr if task.transfer.ddr or task.transfer.weights else 1.0, of_l2 if task.transfer.l2 else 1.0)
            first = min(first, task.left / task.speed)
        self._at(self.now + first, "moved", self._version)
