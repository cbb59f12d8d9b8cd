"""Steps that convert between a caller's logical arrays and the arena."""

from axforge.axcompiler import ir
from axforge.axcompiler.ir import quant_of
from axforge.axruntime.engines.host.codegen.kit import float_bits
from axforge.axruntime.engines.host.codegen.planes import PlanesSpec
from axforge.axruntime.engines.host.emit import Emitter, row_major, width_for
from axforge.axruntime.engines.host.layout import View
from axforge.axruntime.engines.host.steps import Ref

#: operator of `nd` that does the same as one of `planes`
_PLAIN = {"quantize": "quantize", "dequantize": "dequantize", "enter": "flip", "leave": "flip"}


def cross(m: Emitter, name: str, op: str, array: int) -> None:
    """One step: 'quantize' or 'enter' (float32 or int8 array -> tensor `name`), 'dequantize' or 'leave' (the other way)."""
    view, quant = m.view(name), quant_of(m.graph, name)
    into = op in ("quantize", "enter")
    if len(view.shape) == 4 and view.shape[1] > 1 and view.strides[1] == 1:
        _, c, h, w = view.shape
        few = c if into and c <= 4 and w > 1 and view.strides[3] == c else 0
        size = width_for(w if few else min(c, w if _gaps(view) else h * w), 16)
        if few or size > 4:
            _planes(m, name, PlanesSpec(op, size, few), view, array)
            return
    size = 4 if op in ("quantize", "dequantize") else 1
    other = View("", 0, view.shape, tuple(size * s for s in row_major(view.shape)))
    if into:
        e = ir.Epilogue(zero_point=quant.zero_point)
        m.nd(name, _PLAIN[op], [other], view, epilogue=e, scales=[quant.scale], array=(array, -1))
    else:
        m.nd(name, _PLAIN[op], [view], other, zeros=[quant.zero_point], scales=[quant.scale], array=(-1, array))


def _gaps(view: View) -> bool:
    """Whether rows of the image do not follow each other without gaps."""
    return view.strides[2] != view.shape[3] * view.strides[3]


def _planes(m: Emitter, name: str, spec: PlanesSpec, view: View, array: int) -> None:
    quant = quant_of(m.graph, name)
    n, c, h, w = view.shape
    size = 4 if spec.op in ("quantize", "dequantize") else 1
    operands, numbers = m.epilogue(ir.Epilogue(zero_point=quant.zero_point))
    operands |= {"planes": Ref("", 0, array), "image": Ref(view.root, view.offset)}
    rows, cols = (h, w) if _gaps(view) or spec.few else (1, h * w)
    numbers |= {"n": n, "c": c, "h": rows, "w": cols, "z": quant.zero_point + 128, "m": float_bits(quant.scale)}
    numbers |= {"p_ns": size * c * h * w, "p_cs": size * h * w, "p_rs": size * w}
    numbers |= {"i_ns": view.strides[0], "i_rs": view.strides[2], "i_ps": view.strides[3]}
    writes = [view.root] if spec.op in ("quantize", "enter") else []
    m.step(name, ("planes", spec), operands, numbers, writes)
