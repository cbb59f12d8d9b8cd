"""Steps of the operators with constant weights: convolution (dense, depthwise, grouped, transposed) and fully connected."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.codegen.conv import ConvSpec, lanes_of
from axforge.axruntime.engines.host.codegen.depthwise import DepthwiseSpec
from axforge.axruntime.engines.host.codegen.epilogue import PACKED
from axforge.axruntime.engines.host.codegen.spatial import SpatialSpec
from axforge.axruntime.engines.host.emit import EMITTERS, Emitter, image_numbers, row_major, width_for, window_numbers
from axforge.axruntime.engines.host.emit_tiles import tile_product
from axforge.axruntime.engines.host.features import Isa
from axforge.axruntime.engines.host.layout import View, border_fits, is_flat
from axforge.axruntime.engines.host.product import Product, finish_of, runs, weight_operands
from axforge.axruntime.engines.host.steps import Ref
from axforge.axruntime.engines.host.weights import Segments, segments, shifted_bias


def _blocking(isa: Isa, oc: int) -> tuple[int, int]:
    """(most pixels a tile, vectors a pixel): accumulators, weights and one pixel must fit the registers."""
    if isa.dot == "vnni512":
        vectors = min((4, 3, 2, 1), key=lambda v: (-(-oc // (16 * v)) * v, -v))
        return {4: 6, 3: 8, 2: 12, 1: 14}[vectors], vectors
    return {"vnni256": (6, 2), "pair": (4, 2), "plain": (4, 2)}[isa.dot]


def product(m: Emitter, name: str, p: Product) -> None:
    """The step of one matrix product."""
    if m.isa.dot == "amx":
        tile_product(m, name, p)
        return
    isa, oc = m.isa, p.weight.shape[0]
    images, oh, run = runs(p)
    most, vectors = _blocking(isa, oc)
    block = vectors * lanes_of(isa)
    tiles = -(-run // most)
    rows = -(-run // tiles)
    operands, numbers, groups = weight_operands(m, p, p.seg, block)
    operands["segs"] = m.consts.add(np.array(p.seg.offsets, np.int64))
    numbers |= {"nseg": len(p.seg.offsets), "glen": groups, "oh": oh, "run": run, "tiles": tiles, "rows": rows}
    numbers |= {"mtiles": images * oh * tiles, "in_ns": p.in_ns, "in_rs": p.in_rs, "in_ps": p.in_ps}
    numbers |= {"out_ns": p.y.strides[0], "out_rs": p.y.strides[2], "out_ps": p.y.strides[3]}
    unroll = next(u for u in (4, 2, 1) if groups % u == 0)
    spec = ConvSpec(rows, vectors, p.in_ps, unroll, finish_of(p.epilogue, p.multiplier))
    m.step(name, ("conv", spec), operands, numbers, [p.y.root], p.macs)


# ---------------------------------------------------------------- operators


def _readable(m: Emitter, op: ir.Conv) -> View:
    """The operand with its padding around it and channels next to each other: itself, or a copy."""
    name = op.inputs[0]
    x = m.view(name)
    constant = name in m.graph.constants
    if not constant and x.strides[1] == 1 and (not any(op.pads) or border_fits(m.graph, name, m.layouts)):
        return x
    copy = m.temporary(x.shape, op.pads, m.zero(name) + 128)
    m.nd(op.name + ":pad", "copy", [x], copy)
    return copy


def _conv(m: Emitter, op: ir.Conv) -> None:
    if not math.prod(m.graph.tensors[op.outputs[0]].shape):
        return
    c: Any = m.graph.constants
    convolve(m, op, _readable(m, op), m.view(op.outputs[0]), np.asarray(c[op.weight]), np.asarray(c[op.bias]))


def convolve(m: Emitter, op: ir.Conv, x: View, y: View, weight: NDArray[np.int8], bias: NDArray[np.int32]) -> None:
    """Steps of a convolution of `x`, which has its padding around it."""
    count, cg, kh, kw = weight.shape
    multiplier = np.asarray(m.graph.constants[op.multiplier], np.float32)
    if op.groups == count == x.shape[1] and cg == 1 and op.groups > 1:
        _depthwise(m, op, x, y, weight, bias, multiplier)
        return
    mg = count // op.groups
    bundle = _bundle(op.groups, cg, mg)
    start = x.offset - op.pads[0] * x.strides[2] - op.pads[1] * x.strides[3]
    for g in range(0, op.groups, bundle):
        rows = slice(g * mg, (g + bundle) * mg)
        dense = _block_diagonal(weight[rows], bundle)
        out = View(y.root, y.offset + g * mg, (y.shape[0], bundle * mg, *y.shape[2:]), y.strides)
        seg = segments((kh, kw), op.dilations, bundle * cg, x.strides[2], x.strides[3], m.isa.group)
        at = Ref(x.root, start + g * cg)
        steps = (x.strides[0], op.strides[0] * x.strides[2], op.strides[1] * x.strides[3])
        p = Product(at, *steps, out, seg, dense, bias[rows], multiplier[rows], m.zero(op.inputs[0]), op.epilogue)
        product(m, op.name, p)


def _bundle(groups: int, cg: int, mg: int) -> int:
    """Groups that are computed together as one dense product with zeros off the diagonal: as many as fill a vector."""
    if groups == 1:
        return 1
    most = max(1, min(16 // mg, 64 // cg))
    return next(b for b in range(most, 0, -1) if groups % b == 0)


def _block_diagonal(weight: NDArray[np.int8], bundle: int) -> NDArray[np.int8]:
    """weight [bundle * mg, cg, KH, KW] -> [bundle * mg, bundle * cg, KH, KW]."""
    if bundle == 1:
        return weight
    count, cg, kh, kw = weight.shape
    mg = count // bundle
    out = np.zeros((count, bundle * cg, kh, kw), np.int8)
    for b in range(bundle):
        out[b * mg : (b + 1) * mg, b * cg : (b + 1) * cg] = weight[b * mg : (b + 1) * mg]
    return out


def _depthwise(
    m: Emitter, op: ir.Conv, x: View, y: View, weight: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32]
) -> None:
    count, _, kh, kw = weight.shape
    dense = op.strides[1] == 1 and x.strides[3] == y.strides[3] == count
    if m.isa.avx512:
        _depthwise64(m, op, x, y, weight, bias, multiplier, dense)
        return
    more, numbers = m.epilogue(op.epilogue)
    spec = SpatialSpec("depthwise", width_for(count, 16), op.epilogue.table is not None)
    start = x.offset - op.pads[0] * x.strides[2] - op.pads[1] * x.strides[3]
    operands = more | {
        "x": Ref(x.root, start),
        "y": Ref(y.root, y.offset),
        "k": m.consts.add(weight.reshape(count, kh * kw).T),
        "bias": m.consts.add(shifted_bias(bias, weight, m.zero(op.inputs[0]))),
        "mult": m.consts.add(multiplier),
    }
    numbers |= image_numbers(x, y) | window_numbers((kh, kw), op.strides, op.dilations, (0, 0, 0, 0))
    m.step(op.name, ("spatial", spec), operands, numbers, [y.root], math.prod(y.shape) * kh * kw)


def _depthwise64(
    m: Emitter,
    op: ir.Conv,
    x: View,
    y: View,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    multiplier: NDArray[np.float32],
    dense: bool,
) -> None:
    """64 bytes at a time. With stride 1 and pixels without gaps a whole row is one run of bytes, and vectors cross pixels."""
    count, _, kh, kw = weight.shape
    length = count * y.shape[3] if dense else count
    starts = [max(min(64 * b, length - 64), 0) for b in range(-(-length // 64))]
    phases = sorted({s % count for s in starts})
    grid = _tap_grid(kh, kw, op.strides[0] == 1 and op.dilations[0] == 1 and kh == 3 and y.shape[2] > 1)
    blob, size = _phases(weight, shifted_bias(bias, weight, m.zero(op.inputs[0])), multiplier, phases, grid)
    lines, groups = grid.lines, len(grid.taps) // 4
    taps = [i * op.dilations[0] * x.strides[2] + j * op.dilations[1] * x.strides[3] for i, j in grid.taps]
    operands, numbers = m.epilogue(op.epilogue)
    start = x.offset - op.pads[0] * x.strides[2] - op.pads[1] * x.strides[3]
    operands |= {
        "x": Ref(x.root, start),
        "y": Ref(y.root, y.offset),
        "k": m.consts.add(blob),
        "taps": m.consts.add(np.array(taps, np.int64)),
        "starts": m.consts.add(np.array([[s, size * phases.index(s % count)] for s in starts], np.int64)),
    }
    numbers |= {"images": y.shape[0], "oh": y.shape[2], "pixels": 1 if dense else y.shape[3], "blocks": len(starts)}
    numbers |= {"in_ns": x.strides[0], "in_rs": op.strides[0] * x.strides[2], "in_ps": op.strides[1] * x.strides[3]}
    numbers |= {"out_ns": y.strides[0], "out_rs": y.strides[2], "out_ps": y.strides[3], "bytes": length}
    spec = DepthwiseSpec(groups, lines, finish_of(op.epilogue, multiplier), length < 64)
    m.step(op.name, ("depthwise", spec), operands, numbers, [y.root], math.prod(y.shape) * kh * kw)


@dataclass(frozen=True)
class _TapGrid:
    """Positions (row, column) in the order of the groups of four; `lines` output rows; weights[line][i]: tap of position i, or -1."""

    taps: tuple[tuple[int, int], ...]
    lines: int
    weights: tuple[tuple[int, ...], ...]


def _tap_grid(kh: int, kw: int, paired: bool) -> _TapGrid:
    """One line, taps as they come. paired (three rows, stride 1): columns of four rows, which hold the taps of two output rows."""
    if paired:
        taps = tuple((i, j) for j in range(kw) for i in range(4))
        return _TapGrid(taps, 2, tuple(tuple((i - line) * kw + j if 0 <= i - line < 3 else -1 for i, j in taps) for line in range(2)))
    flat = [(i, j) for i in range(kh) for j in range(kw)]
    extra = -len(flat) % 4
    return _TapGrid((*flat, *flat[-1:] * extra), 1, ((*range(len(flat)), *[-1] * extra),))


def _phases(
    weight: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32], phases: list[int], grid: _TapGrid
) -> tuple[NDArray[np.uint8], int]:
    """For 64 channels from each phase on (around the end to the first): weights [groups, lines, 4, 16, 4], bias [4, 16] and
    multiplier [4, 16] in the order in which unpacking leaves bytes. Also the bytes of one phase."""
    count = len(weight)
    groups = len(grid.taps) // 4
    flat = np.concatenate([weight.reshape(count, -1).T, np.zeros((1, count), np.int8)])
    taps = flat[np.array(grid.weights)]
    order = np.argsort(np.array(PACKED))
    parts = []
    for phase in phases:
        channels = (phase + order) % count
        four = taps[:, :, channels].reshape(grid.lines, groups, 4, 4, 16).transpose(1, 0, 3, 4, 2)
        parts += [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (four, bias[channels], multiplier[channels])]
    return np.concatenate(parts), groups * grid.lines * 256 + 512


def _fully_connected(m: Emitter, op: ir.FullyConnected) -> None:
    c: Any = m.graph.constants
    weight = np.asarray(c[op.weight])
    count, k = weight.shape
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    n = math.prod(x.shape[:-1])
    if not n or not count:
        return
    x = m.flat(op.name, x, (n, k))
    direct = is_flat(y)
    out = y if direct else m.temporary((n, count))
    image = View(out.root, out.offset, (1, count, 1, n), (n * count, 1, n * count, count))
    seg = Segments((0,), 1, k, k)
    values = (weight.reshape(count, k, 1, 1), np.asarray(c[op.bias]), np.asarray(c[op.multiplier]))
    product(m, op.name, Product(Ref(x.root, x.offset), n * k, n * k, k, image, seg, *values, m.zero(op.inputs[0]), op.epilogue))
    if not direct:
        m.nd(op.name, "copy", [View(out.root, out.offset, y.shape, row_major(y.shape))], y)


def _conv_transpose(m: Emitter, op: ir.ConvTranspose) -> None:
    """Zeros between the pixels, then a convolution with the flipped kernel and stride 1."""
    c: Any = m.graph.constants
    weight = np.asarray(c[op.weight])
    channels, mg, kh, kw = weight.shape
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    if not math.prod(y.shape):
        return
    n, _, h, w = x.shape
    (sh, sw), (dh, dw) = op.strides, op.dilations
    top, left = (kh - 1) * dh - op.pads[0], (kw - 1) * dw - op.pads[1]
    # the stretched image, cut or extended so that output (0, 0) starts at its corner
    rows, cols = y.shape[2] + (kh - 1) * dh, y.shape[3] + (kw - 1) * dw
    shape = (n, channels, rows, cols)
    big = m.temporary(shape)
    m.nd(op.name + ":fill", "fill", [], big, shift=m.zero(op.inputs[0]) + 128)
    i0, j0 = -(min(top, 0) // sh), -(min(left, 0) // sw)
    count_h = min(h, -(-(rows - top) // sh)) - i0
    count_w = min(w, -(-(cols - left) // sw)) - j0
    if count_h > 0 and count_w > 0:
        s = big.strides
        at = big.offset + (top + i0 * sh) * s[2] + (left + j0 * sw) * s[3]
        part = (n, channels, count_h, count_w)
        source = View(x.root, x.offset + i0 * x.strides[2] + j0 * x.strides[3], part, x.strides)
        m.nd(op.name + ":spread", "copy", [source], View(big.root, at, part, (s[0], s[1], sh * s[2], sw * s[3])))
    g = op.groups
    flipped = weight.reshape(g, channels // g, mg, kh, kw)[..., ::-1, ::-1].transpose(0, 2, 1, 3, 4).reshape(g * mg, channels // g, kh, kw)
    conv = ir.Conv(
        name=op.name,
        inputs=op.inputs,
        outputs=op.outputs,
        weight=op.weight,
        bias=op.bias,
        multiplier=op.multiplier,
        dilations=op.dilations,
        groups=g,
        epilogue=op.epilogue,
    )
    convolve(m, conv, big, y, np.ascontiguousarray(flipped), np.asarray(c[op.bias]))


EMITTERS[ir.Conv] = _conv
EMITTERS[ir.FullyConnected] = _fully_connected
EMITTERS[ir.ConvTranspose] = _conv_transpose
