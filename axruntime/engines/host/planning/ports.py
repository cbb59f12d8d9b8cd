"""Steps that convert between a caller's logical arrays and the arena, and where a plan keeps them."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import quant_of
from axforge.axcompiler.program import Kind
from axforge.axcompiler.strides import dense
from axforge.axruntime.engines.host.codegen.kernels.planes import PlanesParams, PlanesSpec
from axforge.axruntime.engines.host.codegen.params import FIRST_ARRAY, Ref
from axforge.axruntime.engines.host.emission.elementwise import ElementwiseOperation, emit_elementwise
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.images import width_for
from axforge.axruntime.engines.host.emission.layout import View
from axforge.axruntime.engines.host.emission.steps import Step


class HostPort(msgspec.Struct, frozen=True):
    """A crossing between a caller's logical array and the arena.

    array: number of its base address; step: number of the native step that converts (-1: an empty array needs none).
    """

    tensor: str
    array: int
    step: int


class Ports:
    """Numbers the caller's arrays and emits their conversions. alternatives: number of a step -> the one for codes instead of float32."""

    def __init__(self, m: Emitter) -> None:
        self.m, self.count = m, 0
        self.alternatives: dict[int, Step] = {}

    def entry(self, name: str, real: bool) -> HostPort:
        """Into the arena: float32 (or, as alternative, codes) if `real`, else codes."""
        return self._convert(name, ("quantize", "enter") if real else ("enter",))

    def exit(self, name: str, real: bool) -> HostPort:
        """Out of the arena: float32 (or codes) if `real`, else codes."""
        return self._convert(name, ("dequantize", "leave") if real else ("leave",))

    def _convert(self, name: str, ops: Sequence[str]) -> HostPort:
        array = FIRST_ARRAY + self.count
        self.count += 1
        if math.prod(self.m.graph.tensors[name].shape) == 0:
            return HostPort(name, array, -1)
        for op in reversed(ops):
            if op != ops[-1]:
                codes = self.m.steps.pop()
                assert isinstance(codes, Step)
                self.alternatives[len(self.m.steps)] = codes
            _cross(self.m, name, op, array)
        return HostPort(name, array, len(self.m.steps) - 1)


def _cross(m: Emitter, name: str, op: str, number: int) -> None:
    """One step: 'quantize' or 'enter' (float32 or int8 array -> tensor `name`), 'dequantize' or 'leave' (the other way)."""
    view = m.view(name)
    kind = Kind.FLOAT32 if op in ("quantize", "dequantize") else Kind.INT8
    # a tensor may cross more than once, and an array is float32 or int8
    array = m.array(number, dense(f"array {number}, {kind.name.lower()}", view.shape, kind))
    spec = _planes_spec(op, view)
    if spec is not None:
        _planes(m, name, spec, view, array)
    else:
        _any_rank(m, name, op, view, array)


def _planes_spec(op: str, view: View) -> PlanesSpec | None:
    """The specialisation for images that are planes outside and have channels next to each other inside, if it pays."""
    if len(view.shape) != 4 or view.shape[1] <= 1 or view.strides[1] != 1:
        return None
    _, c, h, w = view.shape
    few = c if op in ("quantize", "enter") and c <= 4 and w > 1 and view.strides[3] == c else 0
    size = width_for(w if few else min(c, w if _gaps(view) else h * w), 16)
    return PlanesSpec(op, size, few) if few or size > 4 else None


def _any_rank(m: Emitter, name: str, op: str, view: View, array: View) -> None:
    quant = quant_of(m.graph, name)
    scales = (np.float32(quant.scale),)
    if op == "quantize":
        step = ElementwiseOperation(op, [array], view, epilogue=ir.Epilogue(zero_point=quant.zero_point), scales=scales)
    elif op == "dequantize":
        step = ElementwiseOperation(op, [view], array, zeros=(m.zero_byte(name),), scales=scales)
    else:
        step = ElementwiseOperation("flip", [array], view) if op == "enter" else ElementwiseOperation("flip", [view], array)
    emit_elementwise(m, name, step)


def _gaps(view: View) -> bool:
    """Whether rows of the image do not follow each other without gaps."""
    return view.strides[2] != view.shape[3] * view.strides[3]


def _planes(m: Emitter, name: str, spec: PlanesSpec, view: View, array: View) -> None:
    quant = quant_of(m.graph, name)
    n, c, h, w = view.shape
    rows, cols = (h, w) if _gaps(view) or spec.few else (1, h * w)
    p_ns, p_cs, p_rs, _ = array.strides
    i_ns, _, i_rs, i_ps = view.strides
    params: PlanesParams[Ref, int, np.float32] = PlanesParams(
        spec=spec,
        planes=ref(array),
        image=ref(view),
        n=n,
        c=c,
        h=rows,
        w=cols,
        p_ns=p_ns,
        p_cs=p_cs,
        p_rs=p_rs,
        i_ns=i_ns,
        i_rs=i_rs,
        i_ps=i_ps,
        zero=m.zero_byte(name) if spec.op == "dequantize" else None,
        scale=np.float32(quant.scale) if spec.itemsize == 4 else None,
        epilogue=m.epilogue(ir.Epilogue(zero_point=quant.zero_point)) if spec.op == "quantize" else None,
    )
    m.step(name, params)
