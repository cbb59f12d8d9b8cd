"""Places for the layers of a graph in a drawing: rows by how many layers come before, columns so that chains are straight."""

from collections import defaultdict
from collections.abc import Sequence

Place = tuple[int, int]


def places(inputs: Sequence[Sequence[int]]) -> list[Place]:
    """(column, row) of each node, no two at one place. inputs: of each node, the nodes that it reads, all of which come before it."""
    rows: list[int] = []
    for reads in inputs:
        rows.append(1 + max((rows[node] for node in reads), default=-1))
    columns = [0] * len(inputs)
    taken: dict[int, set[int]] = defaultdict(set)
    for node, reads in enumerate(inputs):
        wanted = sorted(columns[other] for other in reads)[len(reads) // 2] if reads else 0
        columns[node] = _nearest_free(wanted, taken[rows[node]])
        taken[rows[node]].add(columns[node])
    return list(zip(columns, rows, strict=True))


def _nearest_free(wanted: int, taken: set[int]) -> int:
    """The free column nearest to `wanted`; of two the one to the right."""
    distance = 0
    while True:
        for column in (wanted + distance, wanted - distance):
            if column not in taken:
                return column
        distance += 1
