"""What the functions of instructions work with: the state of a core, epilogues, and the table in which they register.

A function is registered by `@executes(Opcode.X)`. It takes the core, the instruction's operands as arrays on the simulated memories, its
immediates and flags by the names that `isa.py` gives them, and `finish` if it ends in an epilogue. It is called once, when a program is
loaded, and returns the step that every frame runs.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.isa import Opcode
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.registry import Registry

Step = Callable[[], None]
FloatType = type[np.float32] | type[np.float64]

#: elements of a block that a chain of element-wise steps works on at once: it stays in the CPU's L2 cache
BLOCK = 1 << 16

#: the function of each instruction
executes: Registry[Opcode, Callable[..., Step]] = Registry("what an instruction does")


class AccessError(AxforgeError):
    """An instruction reaches outside what the memory plan granted it."""


class Scratch:
    """Two blocks of float32 that all instructions share, so that they stay in the CPU's cache."""

    def __init__(self) -> None:
        self._blocks = [np.empty(0, np.float32), np.empty(0, np.float32)]

    def reserve(self, which: int, size: int) -> Callable[[], NDArray[np.float32]]:
        """Make block `which` at least `size` elements large; the function gives it when a step runs."""
        if self._blocks[which].size < size:
            self._blocks[which] = np.empty(size + size % 2, np.float32)
        return lambda: self._blocks[which]


class Core:
    """The state of a simulated core that is not memory. weights: what the array holds; exact: a float type in which its sums are exact."""

    def __init__(self, scratch: Scratch) -> None:
        self.scratch = scratch
        self.weights: Array = np.zeros((0, 0), np.float32)
        self.exact: FloatType = np.float32


class AccumulatorFinish:
    """An instruction's epilogue: code = clamp(round(t) + zero_point, lo, hi), then the table."""

    def __init__(self, zero_point: int, lo: int, hi: int, bias: Array | None, multiplier: Array | None, table: Array | None) -> None:
        self.bias, self.multiplier, self._table = bias, multiplier, table
        self._zero, self._lo, self._hi = np.float32(zero_point), np.float32(lo - zero_point), np.float32(hi - zero_point)
        self._order = b""

    def ready(self) -> None:
        """Read the table from memory, before a row of `store`s."""
        if self._table is not None:
            self._order = np.roll(self._table, -128).tobytes()

    def store(self, t: Array, out: Array) -> None:
        """Write the codes of `t` (float32, overwritten) to `out`."""
        np.rint(t, out=t)
        t.clip(self._lo, self._hi, out=t)
        t += self._zero
        if self._table is None:
            np.copyto(out, t, casting="unsafe")
        else:
            codes = t.astype(np.int8).tobytes().translate(self._order)
            np.copyto(out, np.frombuffer(codes, np.int8).reshape(out.shape))
