"""Barriers stay only where a core needs what another one does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.passes import PassResult
from axforge.axcompiler.program import Program, Records
from axforge.axcompiler.tile.accesses import Accesses, SharedMemory
from axforge.axcompiler.tile.program_pass import ProgramPass


@dataclass(frozen=True)
class DropBarriers(ProgramPass):
    """Leave out barriers that order nothing: no core touches, before the next one, what another core wrote or still reads.

    core 0:  conv rows 0..9  ── barrier ── relu rows 0..9        becomes      conv rows 0..9  ── relu rows 0..9
    core 1:  conv rows 10..  ── barrier ── relu rows 10..                     conv rows 10..  ── relu rows 10..

    Two accesses are compared by their bytes, so a buffer that is put where another one was counts too. Around an island all barriers
    stay, because the host is not a core.
    """

    at: ClassVar[tuple[int, ...]] = (100,)

    def apply(self, program: Program) -> PassResult[Program]:
        """Rewrite the program once."""
        parts = [_parts(stream) for stream in program.streams]
        if len(parts) < 2 or len(parts[0]) < 2:
            return PassResult(program)
        memory = SharedMemory(program)
        dropped = _unneeded([[None if _asks_host(part) else memory.of(part) for part in stream] for stream in parts])
        if not dropped:
            return PassResult(program)
        streams = tuple(_without(stream, dropped) for stream in program.streams)
        layers = [program.header.layers[int(parts[0][k]["layer"][-1])] for k in dropped]
        return PassResult(replace(program, streams=streams), tuple(f"left out the barrier after '{name}'" for name in layers))


def _parts(stream: Records) -> list[Records]:
    """A stream in parts; each but the last ends with the wait of a barrier."""
    return np.split(stream, np.flatnonzero(stream["op"] == Opcode.WAIT) + 1)


def _asks_host(part: Records) -> bool:
    return bool((part["op"] == Opcode.HOST).any())


def _unneeded(parts: Sequence[Sequence[Accesses | None]]) -> list[int]:
    """Numbers of the barriers that order nothing. parts: of each core, what it does before, between and after them; None: unknown."""
    dropped = []
    since = [stream[0] for stream in parts]  # what each core has done since the last barrier that stays
    for barrier in range(len(parts[0]) - 1):
        after = [stream[barrier + 1] for stream in parts]
        if _ordered(since, after):
            since = after
        else:
            dropped.append(barrier)
            since = [a | b for a, b in zip(since, after, strict=True) if a is not None and b is not None]
    return dropped


def _ordered(before: Sequence[Accesses | None], after: Sequence[Accesses | None]) -> bool:
    """Whether a core must wait for another one between these two."""
    return any(a is None or b is None or (i != k and a.conflicts(b)) for i, a in enumerate(before) for k, b in enumerate(after))


def _without(stream: Records, dropped: Sequence[int]) -> Records:
    """The stream without these barriers; the semaphores of the others keep consecutive numbers."""
    ends = np.flatnonzero(stream["op"] == Opcode.WAIT)
    signals = np.flatnonzero(stream["op"] == Opcode.SIGNAL)
    kept = np.setdiff1d(np.arange(len(ends)), dropped)
    out = stream.copy()
    out["imm"][ends[kept], 0] = out["imm"][signals[kept], 0] = np.arange(len(kept))
    return np.delete(out, np.concatenate([ends[dropped], signals[dropped]]))
