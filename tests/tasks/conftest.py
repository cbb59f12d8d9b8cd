"""Projects to try the tasks on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project with an empty cache; real stages."""
    return make_project(tmp_path / "project", tmp_path / "cache")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a compiled model, made elsewhere."""
    folder = tmp_path_factory.mktemp("compiled")
    project = make_project(folder / "project", folder / "cache")
    project.compile()
    return project.built


@pytest.fixture
def quick(project: Project) -> Project:
    """A project whose stages are stand-ins that take no time (or as much as STAGE_SECONDS says)."""
    project.fake_stages()
    return project


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Project]:
    """Makes further projects that share the cache of `project`."""
    return lambda name: make_project(tmp_path / name, tmp_path / "cache")
