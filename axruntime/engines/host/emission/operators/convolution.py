"""Conv and ConvTranspose."""

import math

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.program import as_conv_weight
from axforge.axruntime.engines.host.emission.convolutions import convolve
from axforge.axruntime.engines.host.emission.elementwise import copy, fill
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits
from axforge.axruntime.engines.host.emission.layout import View, border_fits
from axforge.axruntime.engines.host.emission.product import Convolution


def _readable(m: Emitter, op: ir.Conv) -> View:
    """The operand with its padding around it and channels next to each other: itself, or a copy."""
    name = op.inputs[0]
    x = m.view(name)
    constant = name in m.graph.constants
    if not constant and x.strides[1] == 1 and (not any(op.pads) or border_fits(m.graph, name, m.layouts)):
        return x
    padded = m.temporary(x.shape, op.pads, m.zero_byte(name))
    copy(m, op.name + ":pad", x, padded)
    return padded


@emits(ir.Conv)
def conv(m: Emitter, op: ir.Conv) -> None:
    """Convolution with constant weights."""
    if not math.prod(m.graph.tensors[op.outputs[0]].shape):
        return
    constants = m.graph.constants
    convolution = Convolution(
        x=_readable(m, op),
        y=m.view(op.outputs[0]),
        weight=np.asarray(constants[op.weight]),
        bias=np.asarray(constants[op.bias]),
        multiplier=np.asarray(constants[op.multiplier], np.float32),
        zero_byte=m.zero_byte(op.inputs[0]),
        epilogue=op.epilogue,
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads[:2],
        groups=op.groups,
    )
    convolve(m, op.name, convolution)


@emits(ir.ConvTranspose)
def conv_transpose(m: Emitter, op: ir.ConvTranspose) -> None:
    """Zeros between the pixels, then a convolution with the flipped kernel and stride 1."""
    constants = m.graph.constants
    weight = as_conv_weight(np.asarray(constants[op.weight]), op.groups)
    y = m.view(op.outputs[0])
    if not math.prod(y.shape):
        return
    convolution = Convolution(
        x=_stretched(m, op, weight.shape[2:], y.shape),
        y=y,
        weight=weight,
        bias=np.asarray(constants[op.bias]),
        multiplier=np.asarray(constants[op.multiplier], np.float32),
        zero_byte=m.zero_byte(op.inputs[0]),
        epilogue=op.epilogue,
        dilations=op.dilations,
        groups=op.groups,
    )
    convolve(m, op.name, convolution)


def _stretched(m: Emitter, op: ir.ConvTranspose, kernel: tuple[int, ...], result: tuple[int, ...]) -> View:
    """The operand with zeros between its pixels, cut or extended so that the window of output (0, 0) starts at its corner."""
    x = m.view(op.inputs[0])
    n, c, h, w = x.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel, op.strides, op.dilations
    top, left = (kh - 1) * dh - op.pads[0], (kw - 1) * dw - op.pads[1]
    rows, cols = result[2] + (kh - 1) * dh, result[3] + (kw - 1) * dw
    big = m.temporary((n, c, rows, cols))
    fill(m, op.name + ":fill", big, m.zero_byte(op.inputs[0]))
    # the first pixel of the operand inside, and the number of pixels
    i0, j0 = -(min(top, 0) // sh), -(min(left, 0) // sw)
    part = (n, c, min(h, -(-(rows - top) // sh)) - i0, min(w, -(-(cols - left) // sw)) - j0)
    if part[2] > 0 and part[3] > 0:
        spread = big.window((0, 0, top + i0 * sh, left + j0 * sw), part, (1, 1, sh, sw))
        copy(m, op.name + ":spread", x.window((0, 0, i0, j0), part), spread)
    return big
