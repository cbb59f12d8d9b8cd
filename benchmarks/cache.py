"""How much the cache and a build that has nothing to do cost, each against its floor.

    python benchmarks/cache.py [--rounds 15] [--folder /tmp/somewhere] [--only noop,zoo,restore,hash]

noop     `doit compile:MODEL` with nothing to do, whole process, against `doit` with one empty task                       <= 2.0
zoo      the same with 1,000 models in the zoo, against 10                                                                <= 2.0
restore  a 100 MB artefact, every byte checked, against `cp`: by link or reflink, and by copying                          <= 1.3
hash     a 1 GB file never seen at this path, against bare xxh3-128 over the page cache (share of its speed)              >= 0.70
         and, for what is named for the first time on this machine, against bare SHA-256

Both sides of a line run in turn, in one run; the ratio is that of their medians. Files are in the page cache.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import xxhash

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[0] = str(REPOSITORY)  # this file has the name of the package that it measures

from axforge.cache.digest import PIECE  # noqa: E402
from axforge.cache.files import Files  # noqa: E402
from axforge.cache.key import Action  # noqa: E402
from axforge.cache.store import Store  # noqa: E402

EMPTY_DODO = "def task_empty():\n    return {'actions': []}\n"
Timed = Callable[[], object]


def interleaved(sides: Iterable[Timed], rounds: int) -> list[float]:
    """Median seconds of each side, run in turn after a warm-up of all."""
    sides = list(sides)
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, kept in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if number:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def line(name: str, ours: float, floor: float, bound: str, *, share: bool = False) -> None:
    """Print a row; `share`: the floor's time by ours, instead of ours by the floor's."""
    ratio = floor / ours if share else ours / floor
    print(f"{name:<58} {ours * 1e3:9.1f} ms   floor {floor * 1e3:9.1f} ms   {ratio:5.2f}   {bound}", flush=True)


def doit(folder: Path, environment: dict[str, str], *words: str) -> None:
    """Run doit there; it must succeed."""
    command = [sys.executable, "-m", "doit", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed in {folder}:\n{done.stdout}{done.stderr}")


def project(folder: Path, models: int) -> tuple[Path, dict[str, str]]:
    """The tiny project of the tests with so many models, the first of them compiled; and the environment to run doit in."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "tasks"))
    from tasks_support import make_project

    made = make_project(folder / f"zoo{models}", folder / "cache")
    environment = {**made.env(), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("PYTHONDONTWRITEBYTECODE")
    document = json.loads(made.descriptor.read_text())
    for number in range(models - 1):
        other = made.root / "models" / f"other{number:04}"
        other.mkdir()
        (other / "model.json").write_text(json.dumps({**document, "name": other.name}))
    for _ in range(3):  # build it; then let what was just written be hashed once more, now that its time stamps can be trusted
        doit(made.root, environment, "compile:tiny")
        time.sleep(0.1)
    return made.root, environment


def noop(folder: Path, rounds: int) -> None:
    """A build with nothing to do, against doit itself; and how it grows with the zoo."""
    (folder / "empty").mkdir()
    (folder / "empty" / "dodo.py").write_text(EMPTY_DODO)
    small, environment = project(folder, 10)
    ours, floor = interleaved([lambda: doit(small, environment, "compile:tiny"), lambda: doit(folder / "empty", environment)], rounds)
    line("no-op `doit compile:MODEL` / `doit` with an empty task", ours, floor, "<= 2.0")


def zoo(folder: Path, rounds: int) -> None:
    """1,000 models against 10."""
    sides = [project(folder / name, count) for name, count in (("many", 1000), ("few", 10))]
    ours, floor = interleaved([lambda s=side: doit(s[0], s[1], "compile:tiny") for side in sides], rounds)  # type: ignore[misc]
    line("no-op with 1,000 models / with 10", ours, floor, "<= 2.0")


def restore(folder: Path, rounds: int) -> None:
    """A checked restore of 100 MB, against cp."""
    made, target = folder / "made", folder / "target"
    made.mkdir()
    (made / "model.axmodel").write_bytes(os.urandom(100_000_000))
    action = Action("pack", 1, {}, {}, ("model.axmodel",))
    linking, copying = Store(folder / "c"), Store(folder / "c", link=False)
    record = linking.put(action, made, {})

    def cp() -> None:
        target.mkdir(exist_ok=True)
        subprocess.run(["cp", made / "model.axmodel", target / "model.axmodel"], check=True)

    def fresh(work: Timed) -> Timed:
        def run() -> None:
            shutil.rmtree(target, ignore_errors=True)
            work()

        return run

    sides = [lambda: linking.restore(record, target), lambda: copying.restore(record, target), cp]
    linked, copied, floor = interleaved([fresh(side) for side in sides], rounds)
    line("restore 100 MB by link or reflink / cp", linked, floor, "<= 1.3")
    line("restore 100 MB by copying / cp", copied, floor, "<= 1.3")


def bare(path: Path, hasher: Callable[[], "hashlib._Hash | xxhash.xxh3_128"]) -> None:
    """The floor: read in pieces and hash, nothing else."""
    taken, buffer = hasher(), bytearray(PIECE)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            taken.update(view[:count])
    taken.hexdigest()


def hashing(folder: Path, rounds: int) -> None:
    """1 GB, with an index that does not know the path yet."""
    file = folder / "large.onnx"
    block = os.urandom(1 << 20)
    with file.open("wb") as stream:
        for number in range(954):
            stream.write(number.to_bytes(8, "little") + block[8:])
    time.sleep(0.1)

    def known() -> None:
        index = folder / "index"
        for entry in index.glob("*.json"):  # the path is new; the content was named before
            entry.unlink()
        assert Files(index).digest(file).sha256

    def unknown() -> None:
        assert Files(None).digest(file).sha256

    assert Files(folder / "index").digest(file).sha256
    changed = lambda: Files(None).digest(file)  # noqa: E731
    sides = [changed, known, lambda: bare(file, xxhash.xxh3_128)]
    asked, named, floor = interleaved(sides, rounds)
    line("hash 1 GB: has it changed / bare xxh3", asked, floor, ">= 0.70", share=True)
    line("hash 1 GB: its SHA-256, content seen before / bare xxh3", named, floor, ">= 0.70", share=True)
    first, floor = interleaved([unknown, lambda: bare(file, hashlib.sha256)], max(3, rounds // 5))
    line("hash 1 GB: its SHA-256, never seen before / bare SHA-256", first, floor, "", share=True)


PARTS = {"noop": noop, "zoo": zoo, "restore": restore, "hash": hashing}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to put files (about 1.5 GB); default: a temporary folder")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    options = parser.parse_args()
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            PARTS[name](Path(folder), options.rounds)


if __name__ == "__main__":
    main()
