"""A frame as a trace: when each unit of each core works on which layer, for Perfetto (ui.perfetto.dev) and chrome://tracing.

The format is the trace event format of Chrome: complete events ("ph": "X") with microseconds, a core as a process, a unit as a thread.
"""

from collections.abc import Iterator

import msgspec

from axforge.axcompiler.program import Program
from axforge.axcompiler.target import Target
from axforge.axruntime.engines.sim.clock.frame import play
from axforge.axruntime.engines.sim.clock.tasks import UNITS

Event = dict[str, object]


def trace(program: Program, target: Target) -> bytes:
    """The trace of one frame of a checked program, as JSON. The host, where it works between AIPU layers, is a process after the cores."""
    frame = play(program, target)
    names, microsecond = program.header.layers, target.clock_hz / 1e6
    events = list(_names(len(frame.streams)))
    for task in frame.tasks():
        args = {"cycles": round(task.end - task.start), "multiply-adds": task.macs}
        events.append(_event(names[task.layer], task.core, task.unit, task.start / microsecond, task.end / microsecond, args))
    for layer, start, end in frame.host:
        if end > start:
            args = {"cycles": round(end - start), "multiply-adds": 0}
            events.append(_event(names[layer], len(frame.streams), 0, start / microsecond, end / microsecond, args))
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ns"})


def _event(name: str, process: int, thread: int, start: float, end: float, args: Event | dict[str, int]) -> Event:
    return {"name": name, "ph": "X", "pid": process, "tid": thread, "ts": round(start, 4), "dur": round(end - start, 4), "args": args}


def _names(cores: int) -> Iterator[Event]:
    """The names of processes and threads."""
    for core in range(cores + 1):
        title = f"core {core}" if core < cores else "host"
        yield {"name": "process_name", "ph": "M", "pid": core, "args": {"name": title}}
        for unit, name in enumerate(UNITS if core < cores else ("islands",)):
            yield {"name": "thread_name", "ph": "M", "pid": core, "tid": unit, "args": {"name": name}}
