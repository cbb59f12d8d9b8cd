"""A folder of a user's in which the command `axforge` is typed."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tasks"))
from tasks_support import Answer, Project, answer, make_project

Axforge = Callable[..., Answer]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a dodo.py, a tiny model and pictures."""
    return make_project(tmp_path / "project", tmp_path / "cache")


@pytest.fixture
def axforge(tmp_path: Path) -> Axforge:
    """Runs `axforge` in a folder (an empty one if none is named), with a cache of its own; in a process of its own."""
    empty = tmp_path / "empty"
    empty.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AXFORGE_", "DOIT_"))}
    kept |= {"AXFORGE_CACHE_DIR": str(tmp_path / "cache")}

    def run(*words: str, cwd: Path = empty, **environment: str) -> Answer:
        return answer([sys.executable, "-m", "axforge.cli.main", *words], cwd, kept | environment)

    return run
