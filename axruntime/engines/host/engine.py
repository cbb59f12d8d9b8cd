"""`HostEngine`: a fused graph on this CPU."""

import ctypes
import math
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.islands import Islands
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.reference import checked_feed
from axforge.axruntime.engines.host.codegen.features import choose
from axforge.axruntime.engines.host.codegen.kernels import amx, panel
from axforge.axruntime.engines.host.codegen.params import ARENA, CONSTS, SCRATCH
from axforge.axruntime.engines.host.emission.layout import quantized
from axforge.axruntime.engines.host.native.cache import ObjectCache, default_cache, load
from axforge.axruntime.engines.host.native.objcode import Mapped
from axforge.axruntime.engines.host.planning.plan import make
from axforge.axruntime.engines.host.planning.ports import HostPort
from axforge.axruntime.engines.host.threads import Pool
from axforge.axruntime.engines.signature import quantization, signature

_engines: "weakref.WeakSet[HostEngine]" = weakref.WeakSet()
#: the caller's thread
_ALONE = Pool(1)
_PTR = ctypes.c_void_p
_INT = ctypes.c_int64
_RUN = (_PTR, _PTR, _INT, _INT, _INT, _PTR, _PTR)


def _forget_pages(graph: Graph) -> None:
    """Gives back the pages of a mapped file whose weights have been packed; what is read again comes back (`container.mapped`)."""
    for value in graph.constants.values():
        owner: object = value
        while isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        owner = owner.obj if isinstance(owner, memoryview) else owner
        if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            owner.madvise(mmap.MADV_DONTNEED)
            return


def _aligned(size: int) -> NDArray[np.uint8]:
    """Bytes that start on a cache line. (Huge pages were tried: 5 to 10 % slower, for conflicts in the second-level cache.)"""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


class WithGraph(Protocol):
    """A model that has a fused graph, like `AxModel`."""

    @property
    def graph(self) -> Graph:
        """Returns the fused graph."""
        ...


class HostEngine:
    """A graph made ready to run on this CPU. `run` may be called from several threads at once.

    threads: 0 takes every CPU this process may use. cpu: code path, see `features.py`. cache: where native code is kept.
    """

    name = "aipu-host"

    def __init__(self, model: Graph | WithGraph, threads: int = 0, *, cpu: str = "", cache: ObjectCache | None = None) -> None:
        self.graph: Graph = model if isinstance(model, Graph) else model.graph
        self.threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or os.cpu_count() or 1
        self.isa = choose(cpu)
        self.plan = make(self.graph, self.isa)
        self.inputs, self.outputs = signature(self.graph, self.graph.inputs), signature(self.graph, self.graph.outputs)
        self.quantization = quantization(self.graph)
        self.code = Mapped(load(self.plan.kernels, self.isa, cache or default_cache()))
        self.native = ctypes.CFUNCTYPE(None, *_RUN)(self.code.addresses[-1])
        self.constants = _aligned(self.plan.constants.size + 256)
        _forget_pages(self.graph)
        self.plan.constants.move(self.constants, lambda: _forget_pages(self.graph))
        self.yield_address = ctypes.cast(ctypes.CDLL(None).sched_yield, _PTR).value
        self.pool = Pool(self.threads)
        self.islands = Islands(self.graph)
        self._free: list[Context] = []
        self._lock = threading.Lock()
        weakref.finalize(self, self.pool.close)
        _engines.add(self)

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        """Outputs by name. Quantized inputs are taken as float32 or as int8 codes; raw gives int8 codes out.

        alone: on the caller's thread only, for callers that run several frames at once.
        """
        with self._lock:
            context = self._free.pop() if self._free else None
        context = context or Context(self)
        try:
            return context.run(feeds, raw, alone)
        finally:
            context.release()
            with self._lock:
                self._free.append(context)

    def renew(self) -> None:
        """Fresh locks and threads, for the child of a fork."""
        self._lock = threading.Lock()
        self.pool.reset()

    def close(self) -> None:
        """Ends the threads and frees the memory."""
        self.pool.close()
        with self._lock:
            self._free.clear()


def _after_fork() -> None:
    """In the child: no other thread holds a lock any more, and the pools' threads are gone."""
    for engine in list(_engines):
        engine.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Context:
    """What one frame in flight needs: an arena, scratch, base addresses, and a copy of the program."""

    def __init__(self, engine: HostEngine) -> None:
        self.engine, plan = engine, engine.plan
        self.arena = _aligned(plan.arena)
        # memory that no kernel touches is never given
        self.scratch = _aligned(max(amx.SCRATCH_BYTES, panel.SCRATCH_BYTES) * engine.threads)
        self.barrier = _aligned(128)
        self.barrier[:] = 0
        self.bases = np.zeros(plan.arrays, np.int64)
        self.bases[ARENA], self.bases[CONSTS], self.bases[SCRATCH] = (a.ctypes.data for a in (self.arena, engine.constants, self.scratch))
        addresses = np.array([*engine.code.addresses, 0], np.int64)
        at = plan.params.ctypes.data
        self.calls = np.stack([addresses[plan.calls[..., 0]], plan.calls[..., 1] + at, plan.calls[..., 2]], axis=-1)
        self.program = self.calls[:, 0].copy()
        self.held: list[Array] = []
        self.pool = engine.pool

    def run(self, feeds: Mapping[str, Array], raw: bool, alone: bool = False) -> dict[str, Array]:
        """Runs one frame and returns its outputs by name, as `HostEngine.run` does."""
        self.pool = _ALONE if alone else self.engine.pool
        engine = self.engine
        graph, plan = engine.graph, engine.plan
        values: dict[str, Array] = {}
        for name in graph.inputs:
            value = checked_feed(graph, feeds, name)
            if name in plan.entries:
                value = np.ascontiguousarray(value, np.int8 if value.dtype == np.int8 else np.float32)
                self._bind(plan.entries[name], value, value.dtype == np.int8)
            else:
                values[name] = value
        out = {n: np.empty(graph.tensors[n].shape, np.int8 if raw else np.float32) for n in plan.exits}
        for name, port in plan.exits.items():
            self._bind(port, out[name], raw)
        for segment in plan.segments:
            if segment.island is not None:
                self._island(segment.first, segment.last, segment.island, values)
            else:
                self._native(segment.first, segment.last)
        return {n: out[n] if n in out else values[n] for n in graph.outputs}

    def _bind(self, port: HostPort, array: Array, codes: bool) -> None:
        """Gives a port its array; codes: the alternative of its step converts it."""
        self.bases[port.array] = array.ctypes.data
        self.held.append(array)
        if port.step >= 0:
            self.program[port.step] = self.calls[port.step, int(codes)]

    def _native(self, first: int, last: int) -> None:
        if first == last:
            return
        call, rest = self.engine.native, (self.barrier.ctypes.data, self.engine.yield_address)
        bases, program = self.bases.ctypes.data, self.program[first:].ctypes.data
        # the job refers to addresses only: a worker that still leaves it keeps nothing alive
        self.pool.run(lambda thread, threads: call(bases, program, last - first, thread, threads, *rest))

    def _island(self, first: int, last: int, op: ir.Island, values: dict[str, Array]) -> None:
        """Native steps up to an island, then the island; its quantized results are bound for the next segment."""
        engine = self.engine
        graph, ports = engine.graph, engine.plan.feeds[op.name]
        taken: dict[str, Array] = {}
        for name in dict.fromkeys(op.inputs):
            if quantized(graph, name):
                taken[name] = np.empty(graph.tensors[name].shape, np.int8)
                self._bind(ports[name], taken[name], True)
        self._native(first, last)
        operands = [taken[n] if n in taken else values[n] if n in values else np.asarray(graph.constants[n]) for n in op.inputs]
        for name, result in zip(op.outputs, engine.islands.run(op, operands), strict=True):
            if quantized(graph, name):
                if math.prod(result.shape) != math.prod(graph.tensors[name].shape):
                    raise AxforgeError(f"the island '{op.name}' made '{name}' with shape {list(result.shape)}", where=graph.name)
                self._bind(ports[name], np.ascontiguousarray(result), True)
            else:
                values[name] = result

    def single_step(self) -> Callable[[int], None]:
        """A function that runs step i alone on one thread, with the arrays of the last `run` (which the caller must not have released)."""
        bases, barrier = self.bases.ctypes.data, self.barrier.ctypes.data
        return lambda i: self.engine.native(bases, self.program[i:].ctypes.data, 1, 0, 1, barrier, None)

    def release(self) -> None:
        """Lets go of the caller's arrays."""
        self.held.clear()
