"""Attention masks, found by structure: what a softmax reads, directly or through copies and sums, may hold huge negative numbers.

An exporter adds float32's minimum, -65504 or -1e4 to the scores of positions that must get no weight. Such numbers are no measure of
the scores. They leave the ranges, and saturate at the lowest code, which is far enough below every score to get the weight 0.
"""

from collections.abc import Iterator

from axforge.axcompiler.numerics import SOFTMAX_BITS
from axforge.axcompiler.operators import find
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.placement.units import copies

#: masks are -1e4 and less; half of it, because the score that a mask was added to may be positive
MASK = -5e3
#: exp(-MARGIN) is less than half a step of the softmax's table
MARGIN = 0.6932 * (SOFTMAX_BITS + 1)


def softmax_operands(plan: Plan) -> Iterator[str]:
    """What each softmax of the model reads."""
    for node in plan.view.nodes:
        operator = find(node.op_type)
        if operator is not None and operator.distribution:
            yield node.inputs[0]


def scores(plan: Plan) -> frozenset[str]:
    """Tensors whose values reach a softmax through nothing but copies and sums."""
    waiting = list(softmax_operands(plan))
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name in plan.view.constants:
            continue
        found.add(name)
        k = plan.maker.get(name)
        if k is not None and (copies(plan.parts[k]) or _is_sum(plan, k)):
            waiting.extend(plan.parts[k].inputs)
    return frozenset(found)


def sums(plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Sums on the AIPU that lead to a softmax, the last first: the result and its operands, constants among them."""
    wanted = scores(plan)
    for k in sorted(plan.aipu, reverse=True):
        if _is_sum(plan, k) and plan.parts[k].outputs[0] in wanted:
            yield plan.parts[k].outputs[0], tuple(plan.view.nodes[plan.parts[k].nodes[0]].inputs)


def _is_sum(plan: Plan, k: int) -> bool:
    unit = plan.parts[k]
    return unit.region is None and unit.refusal is None and unit.operator is not None and unit.operator.sums
