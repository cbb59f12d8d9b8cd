"""Results as a table of comma-separated values."""

import csv
import io

from axforge.axruntime.media.growing import GrowingFile
from axforge.axruntime.media.sink import Sink, SinkTarget, register
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
        self._file: GrowingFile | None = None

    def write(self, frame: Frame, result: PipelineResult) -> None:
        table = result.table()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._file is None:
            writer.writerow(["frame", "source", *table.head()])
        writer.writerows([frame.index, frame.name, *row] for row in table.rows)
        self._opened().append(text.getvalue().encode())

    def finish(self, stopped: str = "") -> None:
        self._opened().close()
        self.written.append(self.target.path)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.discard()

    def _opened(self) -> GrowingFile:
        if self._file is None:
            self._file = GrowingFile(self.target.path)
        return self._file
