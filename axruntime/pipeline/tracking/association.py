"""The best one-to-one pairing of tracks with boxes."""

from axforge.axruntime.lazy import Array, np


def best_pairs(gain: Array) -> tuple[Array, Array]:
    """Rows and columns of the one-to-one pairing with the largest sum of `gain` [n, m]; pairs whose gain is not above 0 are not made.

    Pairs that share no row or column decide nothing for each other, so each connected group is solved alone: nearly all groups
    are a single pair.
    """
    rows, columns = np.nonzero(gain > 0)
    alone = (np.bincount(rows, minlength=gain.shape[0])[rows] == 1) & (np.bincount(columns, minlength=gain.shape[1])[columns] == 1)
    pairs = list(zip(rows[alone].tolist(), columns[alone].tolist(), strict=True))
    for group_rows, group_columns in _groups(rows[~alone].tolist(), columns[~alone].tolist()):
        pairs += _solved(gain, group_rows, group_columns)
    pairs.sort()
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def _groups(rows: list[int], columns: list[int]) -> list[tuple[list[int], list[int]]]:
    """The connected groups of a bipartite graph with these edges: rows and columns of each, sorted."""
    by_row: dict[int, set[int]] = {}
    by_column: dict[int, set[int]] = {}
    for row, column in zip(rows, columns, strict=True):
        by_row.setdefault(row, set()).add(column)
        by_column.setdefault(column, set()).add(row)
    groups = []
    while by_row:
        start = next(iter(by_row))
        group_rows, group_columns, waiting = {start}, set[int](), [start]
        while waiting:
            for column in by_row.pop(waiting.pop()) - group_columns:
                group_columns.add(column)
                waiting += by_column[column] - group_rows
                group_rows |= by_column[column]
        groups.append((sorted(group_rows), sorted(group_columns)))
    return groups


def _solved(gain: Array, rows: list[int], columns: list[int]) -> list[tuple[int, int]]:
    """The best pairs of a group. Each row may also stay alone: it gets a column of its own with gain 0."""
    cost = np.zeros((len(rows), len(columns) + len(rows)))
    cost[:, : len(columns)] = -np.maximum(gain[np.ix_(rows, columns)], 0)
    return [(rows[i], columns[j]) for i, j in enumerate(_least_cost(cost)) if j < len(columns) and gain[rows[i], columns[j]] > 0]


def _least_cost(cost: Array) -> list[int]:
    """The column of each row of the assignment of least cost; `cost` [n, m] with n <= m.

    Shortest augmenting paths with potentials (Jonker and Volgenant, 1987): O(n^2 m).
    """
    n, m = cost.shape
    row_of = np.full(m, -1)
    row_price, column_price = np.zeros(n), np.zeros(m)
    for start in range(n):
        distance, previous, done = np.full(m, np.inf), np.full(m, -1), np.zeros(m, bool)
        row, column, far = start, -1, 0.0
        while True:
            through = far + cost[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter], previous[shorter] = through[shorter], row
            column = int(np.argmin(np.where(done, np.inf, distance)))
            far = float(distance[column])
            if row_of[column] < 0:
                break
            done[column] = True
            row = int(row_of[column])
        row_price[start] += far
        row_price[row_of[done]] += far - distance[done]
        column_price[done] -= far - distance[done]
        _flip(row_of, previous, column, start)
    found = [-1] * n
    for column in np.flatnonzero(row_of >= 0).tolist():
        found[int(row_of[column])] = column
    return found


def _flip(row_of: Array, previous: Array, column: int, start: int) -> None:
    """Give the columns of a path, from its free end back to the row `start`, the rows that reach them."""
    while True:
        row = int(previous[column])
        taken = int(np.flatnonzero(row_of == row)[0]) if row != start else -1
        row_of[column] = row
        if row == start:
            return
        column = taken
