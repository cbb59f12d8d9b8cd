"""How well frames per second on the vendor's boards are predicted: each network by prices that were found without its family.

    python benchmarks/aipu.py [NAME ...] [--folder FOLDER] [--figures FILE] [--graphs FOLDER] [--json FILE] [--cores N]

FOLDER holds graphs `*.shape.onnx` with seeded random weights, FILE a table with the columns model, fps (the card) and fps_m2 (the M.2
module), which name the same networks (without them: `models/shape/zoo` and `figures/voyager_zoo_dev.csv` of AXFORGE_DATA_ROOT). Each
network is compiled once, with a frame of noise and without a choice of ranges; its graph stays in --graphs, and the program is made anew.

For each board: every network's error, predicted / published - 1 of frames per second, with the prices (axruntime/prediction/boards.py) that
give the other families the least mean error; medians by family; and the prices of all networks, and the range, for `boards.yaml`.
The status is 1 if a median error is above 0.15, a 90th percentile above 0.6, or a rank correlation below 0.95.
"""

import argparse
import csv
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from zoo_compiles import SUFFIX, noise

from axforge.ax_models.builders.shape import fill
from axforge.axcompiler import api, graphfile, target
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.stages import QuantizeConfig
from axforge.axcompiler.tile.lower import compile_program
from axforge.axruntime.prediction.boards import Board, boards
from axforge.axruntime.prediction.work import Work, work_of

Floats = NDArray[np.float64]
COLUMNS = {"card": "fps", "m2": "fps_m2"}
MEDIAN, TAIL, RANKS = 0.15, 0.6, 0.95


def slug(model: str) -> str:
    """A published name as the graphs are called: `ResNet-50 v1.5` is resnet_50_v1.5."""
    return re.sub(r"[^a-z0-9.]+", "_", model.lower()).strip("_")


def family(name: str) -> str:
    """Networks that share their design: yolov8 with all its heads and sizes, resnet, regnet."""
    found = re.match(r"yolov?\d+|regnet|[a-z]+", name)
    return found.group() if found else name


def published(path: Path) -> dict[str, dict[str, float]]:
    """Frames per second by network and board."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {slug(row["model"]): {board: float(row[column]) for board, column in COLUMNS.items() if row.get(column)} for row in rows}


def graph_of(path: Path, kept: Path) -> Graph:
    """The compiled graph of a network, made once."""
    file = kept / f"{path.name.removesuffix(SUFFIX)}.axgraph"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            compiled = api.compile(fill(path), noise, api.Options(quantize=QuantizeConfig(effort="fast")), workdir=folder)
            graphfile.save(compiled.graph, file)
    return graphfile.load(file)


def works(paths: Sequence[Path], kept: Path, cores: int) -> Iterator[tuple[str, Work]]:
    """The work of a frame of each network."""
    metis = target.load("metis")
    for path in paths:
        graph = graph_of(path, kept)
        yield path.name.removesuffix(SUFFIX), work_of(graph, compile_program(graph, metis, cores)[0], metis)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def prices(work: Floats, cycles: Floats) -> Floats:
    """The prices, none negative, of the least mean |cycles / (work @ prices) - 1|: repeated least squares, weighed by the errors before."""
    scale = work.mean(axis=0) + 1e-9
    work, guess = work / scale, cycles
    found = np.zeros(work.shape[1])
    for _ in range(100):
        error = np.maximum(np.abs(cycles - guess) / guess, 0.05)
        weight = 1 / (guess * np.sqrt(error))
        found = _not_negative(work * weight[:, None], cycles * weight)
        guess = 0.5 * guess + 0.5 * np.maximum(work @ found, 0.05 * cycles)
    return found / scale


def _not_negative(a: Floats, b: Floats) -> Floats:
    """Least squares; the columns of negative results are left out, the most negative one first."""
    used = list(range(a.shape[1]))
    while True:
        found = np.linalg.lstsq(a[:, used], b)[0]
        if not used or found.min() >= 0:
            result = np.zeros(a.shape[1])
            result[used] = found
            return result
        del used[int(found.argmin())]


def ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    return np.array([(np.sum(values < v) + np.sum(values <= v) - 1) / 2 for v in values])


@dataclass(frozen=True)
class Fit:
    """A board against the published figures. predicted: by prices without the network's family; ratio: published / predicted."""

    board: Board
    names: list[str]
    fps: Floats
    predicted: Floats
    prices: Floats

    @property
    def errors(self) -> Floats:
        """|predicted / published - 1| of each network."""
        return np.abs(self.predicted / self.fps - 1)

    @property
    def figures(self) -> dict[str, float]:
        """Median and 90th percentile of the errors, and the correlation of ranks."""
        rho = np.corrcoef(ranks(self.predicted), ranks(self.fps))[0, 1]
        return {"median": float(np.median(self.errors)), "p90": float(np.quantile(self.errors, 0.9)), "ranks": float(rho)}

    @property
    def good(self) -> bool:
        """Whether the figures are what they have to be."""
        f = self.figures
        return f["median"] <= MEDIAN and f["p90"] <= TAIL and f["ranks"] >= RANKS

    @property
    def fitted(self) -> Board:
        """The board as it is to be written to boards.yaml."""
        pace, ddr, weights = (float(f"{price:.3g}") for price in self.prices)
        slow, fast = (float(f"{q:.2f}") for q in np.quantile(self.fps / self.predicted, (0.1, 0.9)))
        return msgspec.structs.replace(self.board, pace=pace, ddr=ddr, weights=weights, slow=slow, fast=fast)


def fit(board: Board, work: dict[str, Work], figures: dict[str, dict[str, float]]) -> Fit:
    """Prices of all networks, and a prediction of each by prices that its family had no part in."""
    names = sorted(name for name in work if board.name in figures.get(name, {}))
    fps = np.array([figures[name][board.name] for name in names])
    rows = np.array([(work[name].cycles, work[name].ddr, work[name].zeros) for name in names], np.float64)
    rate, families = board.cores * board.clock_hz, np.array([family(name) for name in names])
    predicted = np.empty(len(names))
    for one in set(families):
        others = families != one
        predicted[~others] = rate / (rows[~others] @ prices(rows[others], rate / fps[others]))
    return Fit(board, names, fps, predicted, prices(rows, rate / fps))


def show(result: Fit) -> None:
    """The table of a board."""
    print(
        f"\n{result.board.title}: {len(result.names)} networks\n{'network':24}{'family':14}{'published':>10}{'predicted':>10}{'error':>8}"
    )
    errors: dict[str, list[float]] = defaultdict(list)
    for i in np.argsort(-result.errors):
        name, ratio = result.names[i], result.predicted[i] / result.fps[i] - 1
        errors[family(name)].append(abs(ratio))
        print(f"{name:24}{family(name):14}{result.fps[i]:10,.0f}{result.predicted[i]:10,.0f}{ratio:+8.0%}")
    print("median error by family: " + ", ".join(f"{one} {np.median(e):.0%}" for one, e in sorted(errors.items())))
    print("each by prices without its family: " + ", ".join(f"{name} {value:.3f}" for name, value in result.figures.items()))
    print(msgspec.yaml.encode([result.fitted]).decode())


def main() -> int:
    """Command line."""
    root = Path(os.environ.get("AXFORGE_DATA_ROOT", "."))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, default=root / "models" / "shape" / "zoo")
    parser.add_argument("--figures", type=Path, default=root / "figures" / "voyager_zoo_dev.csv")
    parser.add_argument("--graphs", type=Path, default=Path(tempfile.gettempdir()) / "axforge-zoo")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--cores", type=int, default=1, help="that the programs are made for")
    args = parser.parse_args()
    paths = [p for p in sorted(args.folder.glob(f"*{SUFFIX}")) if not args.names or p.name.removesuffix(SUFFIX) in args.names]
    if not paths or not args.figures.is_file():
        parser.error(f"no network of {args.folder} is chosen, or there is no {args.figures}")
    args.graphs.mkdir(parents=True, exist_ok=True)
    work, figures = dict(works(paths, args.graphs, args.cores)), published(args.figures)
    results = [fit(board, work, figures) for board in boards()]
    for result in results:
        show(result)
    if args.json:
        document = {r.board.name: {**r.figures, "predicted": dict(zip(r.names, r.predicted.tolist(), strict=True))} for r in results}
        args.json.write_bytes(
            msgspec.json.format(msgspec.json.encode({"boards": document, "work": {n: asdict(w) for n, w in work.items()}}))
        )
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
