"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real models and images (AXFORGE_DATA_ROOT, else `shared` beside the repository); skips without it."""
    root = Path(os.environ.get("AXFORGE_DATA_ROOT", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "models").is_dir():
        pytest.skip("needs the models and images of AXFORGE_DATA_ROOT, which is not there")
    return root
