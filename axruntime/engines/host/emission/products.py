"""Steps of matrix products: in tile registers where the path has them, else in vector registers."""

import numpy as np

from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.conv import ConvParams, ConvSpec, lanes_of
from axforge.axruntime.engines.host.codegen.params import Ref
from axforge.axruntime.engines.host.emission.emitter import Emitter, ref
from axforge.axruntime.engines.host.emission.panel_products import panel_product
from axforge.axruntime.engines.host.emission.product import Product, finish_of, packed_weights, runs
from axforge.axruntime.engines.host.emission.tile_products import tile_product


def emit_product(m: Emitter, name: str, p: Product) -> None:
    """The step of one matrix product."""
    if m.isa.dot == "amx":
        tile_product(m, name, p)
    elif m.isa.dot != "pair" or not panel_product(m, name, p):
        _vector_product(m, name, p)


def vector_blocking(isa: Isa, oc: int) -> tuple[int, int]:
    """(most pixels of a tile, vectors of a pixel): accumulators, weights and one pixel must fit the registers."""
    if isa.dot == "vnni512":
        vectors = min((4, 3, 2, 1), key=lambda v: (-(-oc // (16 * v)) * v, -v))
        return {4: 6, 3: 8, 2: 12, 1: 14}[vectors], vectors
    if isa.arm:
        # as many vectors as there are channels: sums of 8 or 16 channels are finished together
        most = {"sdot": 4, "smull": 2}[isa.dot]
        vectors = next(v for v in (4, 2, 1) if v <= most and (v == 1 or oc > 2 * v))
        return {"sdot": {4: 5, 2: 8, 1: 8}, "smull": {2: 3, 1: 4}}[isa.dot][vectors], vectors
    return {"vnni256": (6, 2), "pair": (4, 2), "plain": (4, 2)}[isa.dot]


def _vector_product(m: Emitter, name: str, p: Product) -> None:
    images, oh, run = runs(p)
    most, vectors = vector_blocking(m.isa, p.weight.shape[0])
    tiles = -(-run // most)
    rows = -(-run // tiles)
    epilogue = m.epilogue(p.epilogue)
    weights = packed_weights(m, p, p.seg, vectors * lanes_of(m.isa))
    unroll = next(u for u in (2 if m.isa.dot == "smull" else 4, 2, 1) if weights.groups % u == 0)
    lowest = m.isa.dot == "smull" and bool(np.any(p.weight == -128))
    out_ns, _, out_rs, out_ps = p.y.strides
    params: ConvParams[Ref, int, np.float32] = ConvParams(
        spec=ConvSpec(rows, vectors, p.in_ps, unroll, finish_of(p.epilogue, p.multiplier), lowest),
        x=p.x,
        w=weights.weight,
        bias=weights.bias,
        mult=weights.multiplier,
        segs=m.consts.add_offsets(np.array(p.seg.offsets, np.int64)),
        y=ref(p.y),
        nseg=len(p.seg.offsets),
        glen=weights.groups,
        oh=oh,
        in_ns=p.in_ns,
        in_rs=p.in_rs,
        in_ps=p.in_ps,
        out_ns=out_ns,
        out_rs=out_rs,
        out_ps=out_ps,
        run=run,
        tiles=tiles,
        rows=rows,
        mtiles=images * oh * tiles,
        nblocks=weights.blocks,
        chunk=weights.chunk,
        oc=p.weight.shape[0],
        wstep=weights.step,
        epilogue=epilogue,
    )
    m.step(name, params, p.macs)
