"""One-input regions: element-wise nodes that together are a function of one tensor.

    x ──┬──────────► Mul ──► y          x ── Add 3 ── Clip 0..6 ──┬
        └► Sigmoid ──┘                  └──────────────────────── Mul ── Div 6 ──► y

On int8 codes such a region is a table of 256 entries, whatever is inside; a plain Relu or Clip after an accumulator is
only another pair of bounds. Nothing inside a region is quantized.
"""

import math
from dataclasses import dataclass

import numpy as np

from axforge.axcompiler.onnx_graph.views import ModelView, NodeView
from axforge.axcompiler.operators import find, find_elementwise, refusal

#: most nodes of a region. Networks have a dozen in one; the limit keeps the search linear in the nodes of a model that is all regions
LARGEST = 256


@dataclass(frozen=True)
class Region:
    """nodes: indices into `ModelView.nodes`, ascending. input, output: the one tensor that goes in, the one that comes out."""

    nodes: tuple[int, ...]
    input: str
    output: str


def regions(view: ModelView) -> list[Region]:
    """The maximal one-input regions of a model, disjoint, ordered by their last node.

    Found from the last node backwards: a region takes in the maker of an operand when nobody outside reads that operand.
    """
    found: list[Region] = []
    taken: set[int] = set()
    for last in range(len(view.nodes) - 1, -1, -1):
        if last in taken or not _elementwise(view, last):
            continue
        region = _grow(view, last, taken)
        if region:
            found.append(region)
            taken.update(region.nodes)
    return found[::-1]


def _elementwise(view: ModelView, i: int) -> bool:
    node = view.nodes[i]
    return find_elementwise(node.op_type, node.domain) is not None and len(node.outputs) == 1


def _grow(view: ModelView, last: int, taken: set[int]) -> Region | None:
    """The largest one-input region that ends in node `last`: operands are followed backwards, the one made last first."""
    inside, stuck = {last}, set[str]()
    frontier = _operands(view, last)
    output = view.nodes[last].outputs[0]
    found: tuple[int, str] | None = None
    order = [last]
    # an operand that is no number, or two that stay outside, and the region never fits again
    while _numbers(view, order[-1]) and len(order) <= LARGEST:
        if len(frontier) == 1 and _fits(view, next(iter(frontier)), output):
            found = len(order), next(iter(frontier))
        open_ones = [name for name in frontier - stuck if name in view.makers]
        if not open_ones or len(frontier) - len(open_ones) > 1:
            break
        name = max(open_ones, key=lambda n: view.makers[n])
        maker = view.makers[name]
        if maker in taken or not _elementwise(view, maker) or name in view.outputs or not set(view.users[name]) <= inside:
            stuck.add(name)
            continue
        inside.add(maker)
        order.append(maker)
        frontier = (frontier - {name}) | _operands(view, maker)
    return None if found is None else Region(tuple(sorted(order[: found[0]])), found[1], output)


def _numbers(view: ModelView, i: int) -> bool:
    """Whether the constants of node `i` are nothing but numbers."""
    return all(np.size(view.constants[n]) == 1 for n in view.nodes[i].inputs if n in view.constants)


def _operands(view: ModelView, i: int) -> set[str]:
    return {name for name in view.nodes[i].inputs if name and name not in view.constants}


def _fits(view: ModelView, source: str, output: str) -> bool:
    """Whether the region maps float32 to float32 of the same shape."""
    if view.dtypes.get(source) != "float32" or view.dtypes.get(output) != "float32":
        return False
    shape = view.shapes.get(source)
    return shape is not None and view.shapes.get(output) == shape and 0 not in shape


def absorbed(view: ModelView, region: Region) -> int | None:
    """Index of the accumulating node whose bounds the region becomes (no Q/DQ between them), or None.

    So it is when the region only clips, and the node's result, which the AIPU makes, is read by the region alone.
    """
    maker = view.makers.get(region.input)
    if maker is None or region.input in view.outputs or not set(view.users[region.input]) <= set(region.nodes):
        return None
    node = view.nodes[maker]
    operator = find(node.op_type, node.domain)
    if operator is None or refusal(node) is not None or not operator.accumulates(node):
        return None
    return maker if bounds(tuple(view.nodes[i] for i in region.nodes)) is not None else None


def bounds(nodes: tuple[NodeView, ...]) -> tuple[float, float] | None:
    """(lo, hi) if the nodes, a chain, do nothing but clip: y = min(max(x, lo), hi). None for any other function."""
    lo, hi = -math.inf, math.inf
    for node in nodes:
        known = find_elementwise(node.op_type, node.domain)
        step = known.clips(node) if known else None
        if step is None:
            return None
        lo, hi = (min(max(b, step[0]), step[1]) for b in (lo, hi))
    return (lo, hi)
