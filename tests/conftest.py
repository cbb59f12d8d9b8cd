"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines are slow and shared, so no example has a deadline. A change is checked on the same examples each time; whoever works on
# the code gets new ones each run.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real models and images (AXFORGE_DATA_ROOT, else `shared` beside the repository); skips without it."""
    root = Path(os.environ.get("AXFORGE_DATA_ROOT", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "models").is_dir():
        pytest.skip("needs the models and images of AXFORGE_DATA_ROOT, which is not there")
    return root
