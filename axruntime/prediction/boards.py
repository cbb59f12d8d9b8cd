"""What boards take for the work of a frame, and the frames per second that follow.

    core cycles of a frame = pace * cycles + (activations in DDR) * ddr + (zeros of grouped weights) * weights

Boards work on as many frames at once as the AIPU has cores. The prices, and the range in which four of five networks of other families
were found, come from `benchmarks/aipu.py`, which prints them.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.program import Program
from axforge.axcompiler.target import Positive, Target
from axforge.axruntime.prediction.work import Work, work_of

_FILE = Path(__file__).parent / "boards.yaml"


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board. pace: core cycles for each cycle of the clock; ddr, weights: core cycles for each byte of `Work.ddr` and `Work.zeros`.

    slow, fast: published frames per second, as shares of the predicted ones, at the 10th and the 90th percentile of the networks that
    the board was calibrated on, each predicted from the families that it is not of.
    """

    name: str
    title: str
    target: str
    cores: Positive
    clock_hz: Positive
    pace: float
    ddr: float
    weights: float
    slow: float
    fast: float

    def frames_per_second(self, work: Work) -> float:
        """The most that the board sustains, many frames one after the other, on all cores."""
        cycles = self.pace * work.cycles + self.ddr * work.ddr + self.weights * work.zeros
        return self.cores * self.clock_hz / cycles if cycles else float("inf")

    def area_for(self, work: Work, fps: float) -> float:
        """The share of its input's area at which a network surely makes `fps` frames per second; negative where none does.

        All but the weights' zeros grows with the area.
        """
        grows = self.pace * work.cycles + self.ddr * work.ddr
        return (self.slow * self.cores * self.clock_hz / fps - self.weights * work.zeros) / grows


@dataclass(frozen=True)
class Prediction:
    """Frames per second on a board: from `low` to `high` in four of five cases; `likely` between them."""

    board: Board
    low: float
    likely: float
    high: float

    def __str__(self) -> str:
        return f"{_rounded(self.low)} to {_rounded(self.high)} frames/s on {self.board.title}"


@cache
def boards() -> tuple[Board, ...]:
    """The boards that are known, the fastest first."""
    import yaml  # a model is run without a prediction, and so without YAML

    return msgspec.convert(yaml.safe_load(_FILE.read_text(encoding="utf-8")), tuple[Board, ...])


def predict(graph: Graph, program: Program, target: Target) -> tuple[Prediction, ...]:
    """Predictions for the boards with this target: none for a target of the user's own, or for a program on which the AIPU does nothing."""
    fitting = [board for board in boards() if board.target == target.name]
    if not fitting:
        return ()
    work = work_of(graph, program, target)
    if not work.cycles:
        return ()
    likely = [(board, board.frames_per_second(work)) for board in fitting]
    return tuple(Prediction(board, board.slow * fps, fps, board.fast * fps) for board, fps in likely)


def _rounded(fps: float) -> str:
    """Two significant digits: the figure knows no more."""
    if fps < 10:
        return f"{fps:.2g}"
    scale = 10 ** (len(str(int(fps))) - 2)
    return f"{round(fps / scale) * scale:,}"
