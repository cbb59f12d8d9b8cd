"""Parameters that kernels over images share."""

from collections.abc import Sequence

import numpy as np

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.codegen.kernels.spatial import AveragePoolParams, ImageParams, SpatialSpec, WindowParams
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.layout import View


def width_for(channels: int, widest: int) -> int:
    """Returns the widest power of two, up to `widest`, that is not wider than the channels."""
    return min(widest, 1 << (channels.bit_length() - 1))


def image_params(x: View, y: View, first: Ref | None = None) -> ImageParams[Ref, int, np.float32]:
    """Sizes and strides of operand and result, which have channels next to each other. first: of the operand, if not its first pixel."""
    n, c, h, w = x.shape
    _, _, oh, ow = y.shape
    (in_ns, _, in_rs, in_ps), (out_ns, _, out_rs, out_ps) = x.strides, y.strides
    return ImageParams(
        x=first or ref(x),
        y=ref(y),
        n=n,
        oh=oh,
        ow=ow,
        c=c,
        h=h,
        w=w,
        in_ns=in_ns,
        in_rs=in_rs,
        in_ps=in_ps,
        out_ns=out_ns,
        out_rs=out_rs,
        out_ps=out_ps,
    )


def window_params(
    kernel: Sequence[int], strides: Sequence[int] = (1, 1), dilations: Sequence[int] = (1, 1), pads: Sequence[int] = (0, 0)
) -> WindowParams[Ref, int, np.float32]:
    """A window over an image; pads: above, to the left, and perhaps the others, which do not matter."""
    (kh, kw), (sh, sw), (dh, dw), (pt, pl) = kernel, strides, dilations, pads[:2]
    return WindowParams(kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw, pt=pt, pl=pl)


def average(
    m: Emitter, op: ir.AveragePool | ir.ReduceSum, x: View, y: View, window: WindowParams[Ref, int, np.float32], multipliers: Ref
) -> None:
    """The step of sums over windows. multipliers: float32, for windows of 1, 2, ... elements inside the image."""
    params: AveragePoolParams[Ref, int, np.float32] = AveragePoolParams(
        spec=SpatialSpec(width_for(x.shape[1], 16), op.epilogue.table is not None),
        image=image_params(x, y),
        window=window,
        zero=m.zero_byte(op.inputs[0]),
        mult=multipliers,
        epilogue=m.epilogue(op.epilogue),
    )
    m.step(op.name, params)
