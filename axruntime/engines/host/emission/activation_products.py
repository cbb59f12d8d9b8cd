"""Products of two activations: the second operand is packed at run time, then the kernels of products with constant weights run."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import ir
from axforge.axcompiler.strides import dense
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.amx import AmxParams, AmxSpec
from axforge.axruntime.engines.host.codegen.kernels.conv import ConvParams, ConvSpec, lanes_of
from axforge.axruntime.engines.host.codegen.kernels.operands import COLUMNS, OwnOperands, PackParams, PackSpec, RowTermsParams, RowTermsSpec
from axforge.axruntime.engines.host.codegen.params import Ref, TableRef
from axforge.axruntime.engines.host.emission.elementwise import copy
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.layout import View
from axforge.axruntime.engines.host.emission.product import CHUNK_BYTES, finish_of
from axforge.axruntime.engines.host.emission.products import vector_blocking
from axforge.axruntime.engines.host.emission.tile_products import tile_config, tiles_across

#: fewest pieces of work, so that threads get equal shares
_ITEMS = 8


class Stack(msgspec.Struct, frozen=True):
    """y [..., I, J] = a [..., I, K] @ b [..., K, J]: rows of a and of y have their elements next to each other, and K is not 0.

    zeros: zero_point + 128 of a and b.
    """

    a: View
    b: View
    y: View
    zeros: tuple[int, int]
    multiplier: np.float32
    epilogue: ir.Epilogue

    @property
    def sizes(self) -> tuple[int, int, int]:
        """I, J, K."""
        return self.a.shape[-2], self.b.shape[-1], self.a.shape[-1]

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes before the matrices of the result."""
        return self.y.shape[:-2]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.y.shape) * self.a.shape[-1]


class _Blocking(msgspec.Struct, frozen=True):
    """block: columns that the product kernel takes together; rows: of a tile; vectors: in a block, or tiles of channels.

    words: groups of four products of a column; groups: of `Isa.group` that a row of the first operand has.
    """

    block: int
    rows: int
    vectors: int
    words: int
    groups: int
    chunk: int
    blocks: int
    step: int


def activation_product(m: Emitter, name: str, s: Stack) -> None:
    """Adds the steps of one product."""
    tile = _blocking(m.isa, s)
    weights, biases = _packed(m, name, s, tile)
    terms = _terms(m, name, s)
    matrices = _numbers(s.b.shape[:-2], s.lead)
    rows = _numbers(s.a.shape[:-2], s.lead) * s.sizes[0]
    at = np.stack([matrices * tile.blocks * tile.step, matrices * tile.blocks * tile.block * 4, rows * 4], axis=1)
    operands = weights, biases, terms
    (_tile_steps if m.isa.dot == "amx" else _vector_steps)(m, name, s, tile, operands, at)


def readable(m: Emitter, name: str, view: View, *, either: bool = False) -> View:
    """A matrix whose rows have their elements next to each other, or if `either`, whose columns have: `view` itself, or a copy of it."""
    if view.strides[-1] == 1 or view.shape[-1] == 1 or (either and (view.strides[-2] == 1 or view.shape[-2] == 1)):
        return view
    buffer = m.temporary((math.prod(view.shape),))
    made = dense(buffer.buffer, view.shape)
    copy(m, name, view, made)
    return made


# ---------------------------------------------------------------- positions


def _offsets(shape: Sequence[int], strides: Sequence[int]) -> NDArray[np.int64]:
    """The byte offset of each position of these axes, in row-major order."""
    out = np.zeros(tuple(shape), np.int64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        out += (np.arange(size) * stride).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return out.reshape(-1)


def _numbers(own: tuple[int, ...], lead: tuple[int, ...]) -> NDArray[np.int64]:
    """For each matrix of the result, the number of the operand's matrix, whose leading axes are `own`."""
    return np.broadcast_to(np.arange(math.prod(own), dtype=np.int64).reshape(own), lead).reshape(-1)


# ---------------------------------------------------------------- operands


def _blocking(isa: Isa, s: Stack) -> _Blocking:
    i, j, k = s.sizes
    unit = {"amx": 64, "smull": 8}.get(isa.dot, 4)
    depth = -(-k // unit) * unit
    if isa.dot == "amx":
        most, vectors = 16, tiles_across(depth // 64, j)
        block = 16 * vectors
    else:
        most, vectors = {"sdot": (5, 4), "smull": (3, 2), "plain": (2, 4)}.get(isa.dot) or vector_blocking(isa, j)
        block = vectors * lanes_of(isa)
    tiles = -(-i // most)
    # columns are packed 16 at a time
    blocks = -(-j // max(block, COLUMNS)) * (max(block, COLUMNS) // block)
    step = block * depth * (2 if isa.dot == "pair" else 1)
    items = max(1, math.prod(s.lead) * tiles)
    chunk = max(1, min(blocks, CHUNK_BYTES // step, -(-blocks * items // _ITEMS)))
    return _Blocking(block, -(-i // tiles), vectors, depth // 4, -(-k // isa.group), chunk, blocks, step)


def _packed(m: Emitter, name: str, s: Stack, tile: _Blocking) -> tuple[Ref, Ref]:
    """The step that packs the second operand; returns its weights and biases."""
    count, b = math.prod(s.b.shape[:-2]), s.b
    columns_are_dense = b.strides[-2] == 1 or b.shape[-2] == 1
    by_row = (b.strides[-1] == 1 and b.shape[-1] > 1) or not columns_are_dense
    weights = m.temporary((count * tile.blocks * tile.step,))
    biases = m.temporary((count * tile.blocks * tile.block * 4,))
    params: PackParams[Ref, int, np.float32] = PackParams(
        spec=PackSpec(by_row, tile.block),
        x=ref(b),
        at=m.consts.add_offsets(_offsets(b.shape[:-2], b.strides[:-2])),
        y=ref(weights),
        bias=ref(biases),
        matrices=count,
        step=b.strides[-2] if by_row else b.strides[-1],
        depth=b.shape[-2],
        columns=b.shape[-1],
        words=tile.words,
        blocks=tile.blocks,
        wstep=tile.step,
        zero=s.zeros[0] - m.isa.offset,
    )
    m.step(f"{name}:pack", params)
    return ref(weights), ref(biases)


def _terms(m: Emitter, name: str, s: Stack) -> Ref | None:
    """The step that makes a term for each row of the first operand; None where the second one's zero point is 0."""
    zero, (rows, _, depth) = s.zeros[1] - 128, s.sizes
    if zero == 0:
        return None
    count = math.prod(s.a.shape[:-2])
    terms = m.temporary((4 * count * rows,))
    params: RowTermsParams[Ref, int, np.float32] = RowTermsParams(
        spec=RowTermsSpec(),
        x=ref(s.a),
        at=m.consts.add_offsets(_offsets(s.a.shape[:-2], s.a.strides[:-2])),
        y=ref(terms),
        matrices=count,
        rows=rows,
        step=s.a.strides[-2],
        depth=depth,
        factor=-zero,
        constant=zero * depth * s.zeros[0],
    )
    m.step(f"{name}:rows", params)
    return ref(terms)


# ---------------------------------------------------------------- products

_Operands = tuple[Ref, Ref, Ref | None]


def _vector_steps(m: Emitter, name: str, s: Stack, tile: _Blocking, operands: _Operands, at: NDArray[np.int64]) -> None:
    """The product in vector registers: each matrix of the result is an image of one row."""
    (i, j, _), images = s.sizes, len(at)
    a = s.a.broadcast((*s.lead, *s.a.shape[-2:]))
    places = np.stack([_offsets(s.lead, a.strides[:-2]), _offsets(s.lead, s.y.strides[:-2])], axis=1)
    tiles = -(-i // tile.rows)
    finish = finish_of(s.epilogue, np.array([s.multiplier]))
    unroll = 1 if m.isa.dot == "smull" else next(u for u in (4, 2, 1) if tile.groups % u == 0)
    weights, biases, terms = operands
    params: ConvParams[Ref, int, np.float32] = ConvParams(
        spec=ConvSpec(tile.rows, tile.vectors, a.strides[-2], unroll, finish, lowest=m.isa.dot == "smull"),
        x=ref(a),
        w=weights,
        bias=biases,
        mult=_multipliers(m, s, tile),
        segs=m.consts.add_offsets(np.zeros(1, np.int64)),
        y=ref(s.y),
        nseg=1,
        glen=tile.groups,
        oh=1,
        in_ns=0,
        in_rs=0,
        in_ps=a.strides[-2],
        out_ns=0,
        out_rs=0,
        out_ps=s.y.strides[-2],
        run=i,
        tiles=tiles,
        rows=tile.rows,
        mtiles=images * tiles,
        nblocks=tile.blocks,
        chunk=tile.chunk,
        oc=j,
        wstep=tile.step,
        images=m.consts.add_offsets(places),
        own=_own(m, at, terms),
        epilogue=m.epilogue(s.epilogue),
    )
    m.step(name, params, s.macs)


def _tile_steps(m: Emitter, name: str, s: Stack, tile: _Blocking, operands: _Operands, at: NDArray[np.int64]) -> None:
    """The product in tile registers. Tiles that are computed together are of one matrix: the last ones may be the same."""
    (i, j, _), high = s.sizes, 4 // tile.vectors
    a = s.a.broadcast((*s.lead, *s.a.shape[-2:]))
    tiles = -(-i // tile.rows)
    numbers = np.minimum(np.arange(-(-tiles // high) * high), tiles - 1)
    start = np.minimum(numbers * tile.rows, i - tile.rows)
    places = [(_offsets(s.lead, v.strides[:-2])[:, None] + start * v.strides[-2]).reshape(-1) for v in (a, s.y)]
    own = (at[:, None, :] + start[:, None] * np.array([0, 0, 4])).reshape(-1, 3)
    weights, biases, terms = operands
    steps = tile.words // 16
    params: AmxParams[Ref, int, np.float32] = AmxParams(
        spec=AmxSpec(finish_of(s.epilogue, np.array([s.multiplier])), tile.vectors, tile.vectors == 2 and steps == 1),
        x=ref(a),
        w=weights,
        bias=biases,
        mult=_multipliers(m, s, tile),
        segs=m.consts.add_offsets(np.arange(steps, dtype=np.int64) * 64),
        y=ref(s.y),
        cfg=m.consts.add(tile_config(tile.rows)),
        at=m.consts.add_offsets(np.stack(places, axis=1), np.int32),
        nseg=steps,
        in_ps=a.strides[-2],
        out_ps=s.y.strides[-2],
        rows=tile.rows,
        mtiles=len(own),
        nblocks=tile.blocks,
        chunk=tile.chunk,
        oc=j,
        wstep=tile.step,
        own=_own(m, own, terms),
        epilogue=m.epilogue(s.epilogue),
    )
    m.step(name, params, s.macs)


def _own(m: Emitter, at: NDArray[np.int64], terms: Ref | None) -> OwnOperands[Ref, int, np.float32]:
    table: TableRef = m.consts.add_offsets(at)
    return OwnOperands(at=table, terms=terms)


def _multipliers(m: Emitter, s: Stack, tile: _Blocking) -> Ref:
    """The multiplier, as often as there are columns."""
    return m.consts.add(np.full(tile.blocks * tile.block, s.multiplier, np.float32))
