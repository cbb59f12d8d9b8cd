"""What to change in a network so that boards are faster with it."""

from collections.abc import Iterator

from axforge.axcompiler.ir import Graph, Island
from axforge.axcompiler.target import Target
from axforge.axruntime.prediction.boards import boards
from axforge.axruntime.prediction.work import Work

#: shares of the time that are worth a word, of a price and of a layer
_MATTERS, _LAYER = 0.1, 0.08
#: a layer uses the array badly below this share of its products
_IDLE = 0.15


def islands_between(graph: Graph) -> list[Island]:
    """Parts between AIPU layers that run on the CPU: head and tail run while the AIPU is at other frames."""
    where = [i for i, op in enumerate(graph.ops) if not isinstance(op, Island)]
    inside = graph.ops[where[0] : where[-1]] if where else ()
    return [op for op in inside if isinstance(op, Island)]


def advice(graph: Graph, work: Work, target: Target) -> list[str]:
    """What to change in the network, the change that helps most first. Shares are of the time on the first board."""
    board = boards()[0]
    parts = (board.pace * work.cycles, board.ddr * work.ddr, board.weights * work.zeros)
    total = sum(parts)
    hints = list(_layers(graph, work, target, board.pace / total))
    if parts[2] / total >= _MATTERS:
        hints.append(
            (parts[2] / total, "grouped convolutions cost as much as dense ones: use depthwise ones, or dense ones of fewer channels")
        )
    if parts[1] / total >= _MATTERS:
        hints.append(
            (
                parts[1] / total,
                "activations that do not fit a core's quarter of L2 go through DDR: make the input smaller, or reduce it earlier",
            )
        )
    lines = [f"{share:.0%} of the time: {what}" for share, what in sorted(hints, reverse=True)]
    islands = islands_between(graph)
    names = "; ".join(f"'{op.name}' ({op.reason.partition(';')[0]})" for op in islands[:3])
    more = f" and {len(islands) - 3} more" if len(islands) > 3 else ""
    stops = [f"the AIPU waits for the CPU {len(islands)} time{'s' * (len(islands) > 1)} a frame: {names}{more}"] if islands else []
    return ["what would help:", *(f"  {line}" for line in [*stops, *lines])] if stops or lines else []


def _layers(graph: Graph, work: Work, target: Target, price: float) -> Iterator[tuple[float, str]]:
    """Layers that take much of the time, with what they wait for. price: of a cycle, as a share of the time."""
    peak = target.array.rows * target.array.columns // target.array.cycles_per_vector
    for layer, units in work.layers.items():
        unit = max(units, key=lambda u: units[u])
        share, op = units[unit] * price, graph.ops[layer]
        if share < _LAYER:
            continue
        used = op.multiply_adds(graph) / (units[unit] * peak)
        if unit == "array" and used < _IDLE:
            yield share, f"'{op.name}' uses {used:.1%} of the array: give it more channels at a lower resolution"
        elif unit in ("in", "out"):
            yield share, f"'{op.name}' waits for memory"
        elif unit == "dwpu":
            yield share, f"'{op.name}' is depthwise or pooling, which the array does not do"
