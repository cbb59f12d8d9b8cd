"""LayerNorm."""

import math

import numpy as np

from axforge.axcompiler import ir, numerics
from axforge.axcompiler.ir.ops.normalization import LayerNorm
from axforge.axruntime.engines.host.codegen.epilogue import Finish
from axforge.axruntime.engines.host.codegen.kernels.normalize import LANES, NormalizeParams, NormalizeSpec
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.codegen.walk import Walked
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits, ref
from axforge.axruntime.engines.host.emission.layout import View


@emits(LayerNorm)
def layer_norm(m: Emitter, op: LayerNorm) -> None:
    """Rows along the last axis, one after another, or many at once where they are next to each other."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    if not math.prod(y.shape):
        return
    contiguous = x.strides[-1] == y.strides[-1] == 1
    outer = [a for a in range(len(y.shape) - 1) if y.shape[a] != 1]
    beside = [] if contiguous else [a for a in outer if x.strides[a] == y.strides[a] == 1]
    rows = y.shape[beside[0]] if beside else 1
    outer = [a for a in outer if a not in beside]
    multiplier, offset = (np.asarray(m.graph.constants[name], np.float32) for name in (op.multiplier, op.offset))

    def walked(view: View) -> Walked[Ref, int, np.float32]:
        return Walked(at=ref(view), outer=tuple(view.strides[a] for a in outer), inner=view.strides[-1:])

    params: NormalizeParams[Ref, int, np.float32] = NormalizeParams(
        spec=NormalizeSpec(contiguous, min(rows, LANES), _finish(op.epilogue, multiplier, offset)),
        outer=tuple(y.shape[a] for a in outer),
        count=y.shape[-1],
        rows=rows,
        x=walked(x),
        y=walked(y),
        multiplier=m.consts.add(multiplier),
        offset=m.consts.add(offset),
        epsilon=np.float32(op.epsilon),
        epilogue=m.epilogue(op.epilogue),
    )
    m.step(op.name, params)


def _finish(epilogue: ir.Epilogue, multiplier: numerics.F32, offset: numerics.F32) -> Finish:
    """What the code has to know of the epilogue. A normalized element is at most the root of their number, which is below 256."""
    small = 256.0 * float(np.abs(multiplier).max()) + float(np.abs(offset).max()) < 2.0**31
    return Finish(epilogue.table is not None, epilogue.lo > -128 or epilogue.hi < 127, small)
