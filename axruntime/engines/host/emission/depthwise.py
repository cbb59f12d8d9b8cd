"""Steps of depthwise convolutions."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axruntime.engines.host.codegen.epilogue import PACKED, PACKED32
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.depthwise import DepthwiseParams, DepthwiseSpec, bytes_of, taps_of
from axforge.axruntime.engines.host.codegen.kernels.spatial import DepthwiseBytesParams, SpatialSpec
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.images import image_params, width_for, window_params
from axforge.axruntime.engines.host.emission.product import Convolution, finish_of
from axforge.axruntime.engines.host.emission.weights import shifted_bias


def depthwise(m: Emitter, name: str, c: Convolution) -> None:
    """The step of a convolution with one group for each channel."""
    if m.isa.x86:
        _vectors_of_bytes(m, name, c)
    else:
        _plain(m, name, c)


def _plain(m: Emitter, name: str, c: Convolution) -> None:
    """Vectors along channels."""
    count, _, kh, kw = c.weight.shape
    epilogue = m.epilogue(c.epilogue)
    params: DepthwiseBytesParams[Ref, int, np.float32] = DepthwiseBytesParams(
        spec=SpatialSpec(width_for(count, 16), epilogue.table is not None),
        image=image_params(c.x, c.y, c.first),
        window=window_params((kh, kw), c.strides, c.dilations),
        k=m.consts.add(c.weight.reshape(count, kh * kw).T),
        bias=m.consts.add(shifted_bias(c.bias, c.weight, c.zero_byte - m.isa.offset)),
        mult=m.consts.add(c.multiplier),
        epilogue=epilogue,
    )
    m.step(name, params, c.macs)


def _vectors_of_bytes(m: Emitter, name: str, c: Convolution) -> None:
    """A vector of bytes at a time. With stride 1 and pixels without gaps a whole row is one run of bytes, and vectors cross pixels."""
    count, _, kh, kw = c.weight.shape
    images, _, oh, ow = c.y.shape
    width = bytes_of(m.isa)
    dense = c.strides[1] == 1 and c.x.strides[3] == c.y.strides[3] == count
    length = count * ow if dense else count
    starts = [max(min(width * b, length - width), 0) for b in range(-(-length // width))]
    phases = sorted({s % count for s in starts})
    grid = _tap_grid(kh, kw, c.strides[0] == 1 and c.dilations[0] == 1 and kh == 3 and oh > 1, taps_of(m.isa))
    blob, size = _phases(c.weight, shifted_bias(c.bias, c.weight, c.zero_byte), c.multiplier, phases, grid, m.isa)
    taps = [i * c.dilations[0] * c.x.strides[2] + j * c.dilations[1] * c.x.strides[3] for i, j in grid.taps]
    epilogue = m.epilogue(c.epilogue)
    in_ns, in_rs, in_ps = c.distances
    out_ns, _, out_rs, out_ps = c.y.strides
    params: DepthwiseParams[Ref, int, np.float32] = DepthwiseParams(
        spec=DepthwiseSpec(grid.groups, grid.lines, finish_of(c.epilogue, c.multiplier), length < width),
        x=c.first,
        y=ref(c.y),
        k=m.consts.add(blob),
        taps=m.consts.add_offsets(np.array(taps, np.int64)),
        starts=m.consts.add_offsets(np.array([[s, size * phases.index(s % count)] for s in starts], np.int64)),
        images=images,
        oh=oh,
        pixels=1 if dense else ow,
        blocks=len(starts),
        in_ns=in_ns,
        in_rs=in_rs,
        in_ps=in_ps,
        out_ns=out_ns,
        out_rs=out_rs,
        out_ps=out_ps,
        bytes=length,
        epilogue=epilogue,
    )
    m.step(name, params, c.macs)


class _TapGrid(msgspec.Struct, frozen=True):
    """Positions (row, column) in the order of the `groups` groups; `lines` output rows; weights[line][i]: tap of position i, or -1."""

    taps: tuple[tuple[int, int], ...]
    groups: int
    lines: int
    weights: tuple[tuple[int, ...], ...]


def _tap_grid(kh: int, kw: int, paired: bool, together: int) -> _TapGrid:
    """One line, taps as they come, in groups of `together`. paired (three rows, stride 1): columns of four rows, which hold the taps of
    two output rows."""
    if paired:
        taps = tuple((i, j) for j in range(kw) for i in range(4))
        weights = tuple(tuple((i - line) * kw + j if 0 <= i - line < 3 else -1 for i, j in taps) for line in range(2))
        return _TapGrid(taps, len(taps) // together, 2, weights)
    flat = [(i, j) for i in range(kh) for j in range(kw)]
    extra = -len(flat) % together
    groups = (len(flat) + extra) // together
    return _TapGrid((*flat, *flat[-1:] * extra), groups, 1, ((*range(len(flat)), *[-1] * extra),))


def _phases(
    weight: NDArray[np.int8], bias: NDArray[np.int32], multiplier: NDArray[np.float32], phases: list[int], grid: _TapGrid, isa: Isa
) -> tuple[NDArray[np.uint8], int]:
    """For a vector of channels from each phase on (around the end to the first): weights [groups, lines, 4, lanes, taps], bias [4, lanes]
    and multiplier [4, lanes] in the order in which unpacking leaves bytes. Also the bytes of one phase."""
    count, together, width = len(weight), taps_of(isa), bytes_of(isa)
    flat = np.concatenate([weight.reshape(count, -1).T, np.zeros((1, count), np.int8)])
    taps = flat[np.array(grid.weights)].astype(np.int16 if together == 2 else np.int8)
    order = np.array(PACKED if isa.avx512 else PACKED32)
    parts = []
    for phase in phases:
        channels = (phase + order) % count
        products = taps[:, :, channels].reshape(grid.lines, grid.groups, together, 4, width // 4).transpose(1, 0, 3, 4, 2)
        parts += [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (products, bias[channels], multiplier[channels])]
    return np.concatenate(parts), 4 * width * (grid.groups * grid.lines + 2)
