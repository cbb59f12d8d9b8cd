"""What the tests of the cache share: a small two-output stage, a store that collects its warnings, and looks at all stored files."""

from pathlib import Path
from typing import Any

from axforge.cache.build import Obtained, obtain
from axforge.cache.key import Action, Tree
from axforge.cache.store import Store

BIG = 1_500_000  # above the size from which files are linked


def make_store(root: Path, **options: Any) -> tuple[Store, list[str]]:
    """A store (not synced to disk, to spare it) and the list that its warnings go to."""
    said: list[str] = []
    return Store(root, **{"durable": False, "warn": said.append, **options}), said


def outputs_for(source: bytes) -> dict[str, bytes]:
    """What the stage gives: a large and a small file, decided by its input."""
    seed = source + b"\0"
    return {"big.bin": (seed * (BIG // len(seed) + 1))[:BIG], "small.json": b'{"from": "' + source[:20].hex().encode() + b'"}'}


def make_action(source: bytes | Path, store: Store, **changes: Any) -> Action:
    """Its action, for an input given as a file or as bytes; `inputs` in the changes come on top."""
    from axforge.cache.digest import sha256

    content = sha256(source) if isinstance(source, bytes) else store.files.digest(source)
    fields: dict[str, Any] = {
        "stage": "quantize",
        "stage_version": 1,
        "inputs": {"model.onnx": content, **changes.pop("inputs", {})},
        "config": {"scheme": "mse", "percentile": 99.999},
        "outputs": ("big.bin", "small.json"),
        "sdk": "axforge 0.1.0",
        "libraries": {"numpy": "2.0"},
    }
    return Action(**{**fields, **changes})


def build(store: Store, source: bytes, dest: Path, runs: list[bytes] | None = None, **options: Any) -> Obtained:
    """Obtain the stage's outputs for `source`; appends to `runs` whenever the stage really runs."""

    def run(work: Path) -> str:
        if runs is not None:
            runs.append(source)
        for name, data in outputs_for(source).items():
            (work / name).write_bytes(data)
        return f"worked on {len(source)} bytes\n"

    changes = options.pop("changes", {})
    return obtain(store, make_action(source, store, **changes), dest, run, **options)


def is_right(dest: Path, source: bytes) -> bool:
    """Whether `dest` holds exactly the right outputs, and nothing half-written."""
    return {path.name: path.read_bytes() for path in dest.iterdir()} == outputs_for(source)


def tree_of(names: dict[str, bytes], **options: Any) -> Tree:
    """A tree of small files."""
    from axforge.cache.digest import sha256

    return Tree.of({name: sha256(data) for name, data in names.items()}, **options)


def stored_files(root: Path, *below: str) -> list[Path]:
    """All files under root/v1/<below>, sorted."""
    return sorted(path for path in root.joinpath("v1", *below).rglob("*") if path.is_file())
