"""How close the memory planner comes to the optimum on instances that are known to be hard.

    python benchmarks/planner.py [--folder FOLDER]

FOLDER holds files `NAME.CAPACITY.csv` with the columns id, lower, upper (excluded), size, all of which fit in CAPACITY bytes together
(without it: `data/minimalloc` of AXFORGE_DATA_ROOT). For each: the greedy plan, the plan of the search and the lower bound, as shares of
CAPACITY, and the seconds of processor time. The status is 1 if the mean is above 1.10 or an instance takes more than 5 s.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from axforge.axcompiler.tile.planner import Lifetime, allocate, first_fit, lower_bound, peak

ENOUGH = 1 << 40


def read(path: Path) -> tuple[list[Lifetime], int]:
    """Blocks and capacity of an instance."""
    rows = [line.split(",") for line in path.read_text().split()[1:]]
    return [Lifetime(name, int(size), int(first), int(end) - 1) for name, first, end, size in rows], int(path.name.split(".")[1])


def measure(path: Path) -> tuple[float, float]:
    """Print the line of one instance; its peak as a share of the capacity, and the seconds."""
    blocks, capacity = read(path)
    start = time.process_time()
    offsets, _ = allocate(blocks, ENOUGH)
    seconds = time.process_time() - start
    greedy, found, bound = peak(blocks, first_fit(blocks, ENOUGH)[0]), peak(blocks, offsets), lower_bound(blocks)
    shares = "".join(f"{bytes_ / capacity:10.3f}" for bytes_ in (greedy, found, bound))
    print(f"{path.name.split('.')[0]:10}{len(blocks):8}{shares}{seconds:10.2f}", flush=True)
    return found / capacity, seconds


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("AXFORGE_DATA_ROOT", ".")) / "data" / "minimalloc")
    paths = sorted(parser.parse_args().folder.glob("*.*.csv"))
    if not paths:
        parser.error("the folder holds no instances NAME.CAPACITY.csv")
    print(f"{'instance':10}{'blocks':>8}{'greedy':>10}{'search':>10}{'bound':>10}{'seconds':>10}")
    results = [measure(path) for path in paths]
    mean = sum(share for share, _ in results) / len(results)
    print(f"mean of the search: {mean:.3f} of the capacity")
    return 1 if mean > 1.10 or max(seconds for _, seconds in results) > 5 else 0


if __name__ == "__main__":
    sys.exit(main())
