"""The engine `sim`: the AIPU's program, instruction by instruction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.instruction import ExecutionUnit, Value
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import Opcode, records
from axforge.axcompiler.islands import Islands, to_real
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import Program, const_image
from axforge.axcompiler.reference import entry_codes
from axforge.axcompiler.target import Target, load
from axforge.axruntime.engines.signature import quantization, signature
from axforge.axruntime.engines.sim.core import Step
from axforge.axruntime.engines.sim.cycles import Cycles, count_cycles
from axforge.axruntime.engines.sim.machine import Machine


@dataclass
class Stretch:
    """A control instruction with its immediates by name, or (opcode None) the steps between two that run without a break."""

    opcode: Opcode | None
    values: dict[str, Value]
    steps: list[Step]


class SimEngine:
    """An `Engine` on a program and its graph (both checked). target: whose clock `cycles` counts with."""

    name = "sim"

    def __init__(self, graph: Graph, program: Program, target: Target | None = None) -> None:
        self.graph, self.program, self._target = graph, program, target
        self.inputs, self.outputs = signature(graph, graph.inputs), signature(graph, graph.outputs)
        self.quantization = quantization(graph)
        const = const_image(program, graph.constants)
        const.flags.writeable = False
        self.machine = Machine(program, const)
        self._islands = Islands(graph)
        self._host: dict[str, Array] = {}
        self._places = {name: self.machine.view(index) for name, index in program.header.places.items()}
        self._steps = [self._prepare(core, stream) for core, stream in enumerate(program.streams)]

    @cached_property
    def cycles(self) -> Cycles:
        """Cycles of a frame, whole and by layer. Raises AxforgeError on a target that is not known."""
        return count_cycles(self.program, self._target or load(self.program.header.target))

    def close(self) -> None:
        """Drop the memories."""
        self._steps, self._places = [], {}

    def _prepare(self, core: int, stream: NDArray[np.void]) -> list[Stretch]:
        out: list[Stretch] = []
        for instruction in records(stream):
            if instruction.opcode.spec.unit is ExecutionUnit.CONTROL:
                out.append(Stretch(instruction.opcode, instruction.values, []))
                continue
            if not out or out[-1].opcode is not None:
                out.append(Stretch(None, {}, []))
            out[-1].steps.append(self.machine.prepare(core, instruction))
        return out

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name; see `Engine.run`."""
        self._host = {}
        for name, value in entry_codes(self.graph, feeds).items():
            self._write(name, value)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are clamped as any other number
            self._run_streams()
        outs = {name: self._read(name) for name in self.graph.outputs}
        return outs if raw else {name: to_real(value, self.graph.tensors[name]) for name, value in outs.items()}

    # ---- streams

    def _run_streams(self) -> None:
        """Run the cores one after another, each until it waits for a signal that has not come."""
        at, semaphores = [0] * len(self._steps), dict[int, int]()
        while True:
            moved = False
            for core, steps in enumerate(self._steps):
                start = at[core]
                at[core] = self._advance(steps, start, semaphores)
                moved |= at[core] > start
            if all(i == len(s) for i, s in zip(at, self._steps, strict=True)):
                return
            if not moved:
                raise AxforgeError("the cores wait for each other forever", where=self.graph.name, fix="Compile the model again.")

    def _advance(self, stream: list[Stretch], i: int, semaphores: dict[int, int]) -> int:
        """Run a core's stream from position `i` until it ends or waits; the position it has come to."""
        while i < len(stream):
            now = stream[i]
            for step in now.steps:
                step()
            if now.opcode == Opcode.SIGNAL:
                semaphore = int(now.values["semaphore"])
                semaphores[semaphore] = semaphores.get(semaphore, 0) + 1
            elif now.opcode == Opcode.WAIT:
                if semaphores.get(int(now.values["semaphore"]), 0) < now.values["count"]:
                    return i
            elif now.opcode == Opcode.HOST:
                self._island(int(now.values["operator"]))
            i += 1
        return i

    # ---- the host's side

    def _island(self, index: int) -> None:
        op = self.graph.ops[index]
        if not isinstance(op, ir.Island):
            raise AxforgeError(f"the program asks the host to run '{op.name}', which is not an island", where=self.graph.name)
        for name, value in zip(op.outputs, self._islands.run(op, [self._read(n) for n in op.inputs]), strict=True):
            self._write(name, value)

    def _write(self, name: str, value: Array) -> None:
        """A tensor from the host: into DDR, padding around it, where the AIPU knows it."""
        if name not in self._places:
            self._host[name] = value
            return
        port = self.program.header.ports[name]
        row = self.program.operands[self.program.header.places[name]]
        region = self.machine.region(int(row["buffer"]))
        region[: int(np.prod(port.shape))] = np.int8(port.fill).view(np.uint8)
        np.copyto(self._places[name], value)

    def _read(self, name: str) -> Array:
        if name in self._host:
            return self._host[name]
        if name in self._places:
            return np.array(self._places[name])
        if name in self.graph.constants:
            return np.asarray(self.graph.constants[name])
        return np.zeros(self.graph.tensors[name].shape, self.graph.tensors[name].dtype)
