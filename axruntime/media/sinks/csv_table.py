"""Results as a table of comma-separated values."""

import csv
import io

from axforge.axcompiler.container import write_atomic
from axforge.axruntime.media.sink import Sink, SinkTarget, register, unwritable
from axforge.axruntime.media.source import Frame
from axforge.axruntime.results.result import PipelineResult


@register(".csv")
class CsvSink(Sink):
    """A row for each class, box or whatever a result consists of, of full precision; the frame's number and name come first.

    A frame without any has no row. The head is that of the first result: all results of a pipeline are of one kind.
    """

    name = "table"

    def __init__(self, target: SinkTarget) -> None:
        super().__init__(target)
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._head: list[str] = []

    def add(self, frame: Frame, result: PipelineResult) -> None:
        table = result.table()
        if not self._head:
            self._head = ["frame", "source", *table.head()]
            self._writer.writerow(self._head)
        for row in table.rows:
            self._writer.writerow([frame.index, frame.name, *row])

    def finish(self) -> None:
        try:
            write_atomic(self.target.path, self._text.getvalue().encode())
        except OSError as e:
            raise unwritable(self.target.path, e) from e
        self.written.append(self.target.path)
