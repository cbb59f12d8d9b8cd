"""A proposal as text for a terminal."""

import textwrap
from collections.abc import Sequence

from axforge.axruntime.propose.proposal import Choice, Proposal

_HEAD = ("choice", "value", "how sure", "why")
#: The widest that a value is shown on one line.
_VALUE = 34
_LEAST_WHY = 24


def table(proposal: Proposal, width: int) -> str:
    """The choices, one row each, at most `width` characters wide; texts that do not fit are wrapped in their column."""
    rows = [_HEAD, *((d.what, printable(d.value), d.sure, printable(d.why)) for d in proposal.choices)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    widths[1] = min(widths[1], _VALUE)
    widths.append(max(width - sum(widths) - 6, _LEAST_WHY))
    return "\n".join(line for row in rows for line in _wrapped(row, widths))


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    height = max(map(len, columns))
    lines = []
    for i in range(height):
        cells = (column[i] if i < len(column) else "" for column in columns)
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return lines


def checks(choices: Sequence[Choice]) -> list[str]:
    """What the user should look at, one sentence for each choice that is not beyond doubt."""
    return [f"{d.what}: {printable(d.check)}" for d in choices if d.check]


def printable(text: str) -> str:
    """`text` without characters that would steer a terminal: names in an ONNX file are anybody's."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
