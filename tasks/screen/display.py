"""Tables and counters for what tasks print: rich on a terminal, plain lines elsewhere (no control codes in logs)."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from axforge.axcompiler.stages import Progress, silent
from axforge.tasks.project.progress import in_worker


def fancy() -> bool:
    """Whether to draw: stdout is a terminal that can, and ours alone."""
    return drawable(sys.stdout) and not in_worker()


def drawable(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal on which a line can be drawn again."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


@contextmanager
def counting(title: str) -> Iterator[Progress]:
    """A counter for many pictures: a bar on a terminal, nothing elsewhere."""
    if not fancy():
        yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # only a terminal needs rich
    from rich.progress import Progress as Bars  # only a terminal needs rich

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total, note: bars.update(bar, completed=done, total=total or None)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; columns of numbers are right-aligned."""
    if fancy():
        from rich.console import Console  # only a terminal needs rich
        from rich.table import Table  # only a terminal needs rich

        print(title)  # as Table's own title it would be broken at the width of the columns
        drawn = Table()
        for i, name in enumerate(head):
            drawn.add_column(name, justify="right" if numeric(i, rows) else "left")
        for row in rows:
            drawn.add_row(*row)
        Console().print(drawn)
        return
    print("\n".join([title, *plain(head, rows)]), flush=True)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text."""
    cells = [list(head), *[list(row) for row in rows]]
    right = [numeric(i, rows) for i in range(len(head))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return [f"  {line(row)}" for row in cells]


def numeric(column: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column holds numbers."""
    return all(not row[column] or row[column][0] in "+-0123456789" for row in rows)
