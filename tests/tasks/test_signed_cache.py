"""A build with trusted keys: unsigned results are not used, which is said once and not for each stage."""

import shutil
from pathlib import Path

import pytest
from tasks_support import STAGES, Project

from axforge.cache.trust import generate


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is private to a user is kept here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def test_a_build_says_once_that_unsigned_results_are_not_used(project: Project, tmp_path: Path) -> None:
    project.fake_stages()
    project.compile()
    shutil.rmtree(project.root / "build")
    public = str(generate(tmp_path / "ci.pem"))
    done = project.compile(AXFORGE_CACHE_TRUSTED_KEYS=public)
    assert done.ran() == list(STAGES)
    assert done.err.count("is not signed; results like it are not used") == 1
    shutil.rmtree(project.root / "build")
    done = project.compile(AXFORGE_CACHE_TRUSTED_KEYS=public)
    assert (done.ran(), "not signed" in done.err) == ([], False), "one's own results are one's own"


def test_ci_signs_and_people_verify(project: Project, tmp_path: Path) -> None:
    project.fake_stages()
    public = str(generate(tmp_path / "ci.pem"))
    share = {"AXFORGE_CACHE_REMOTE": str(tmp_path / "share"), "AXFORGE_CACHE_MODE": "rw"}
    project.compile(**share, AXFORGE_CACHE_SIGNING_KEY=str(tmp_path / "ci.pem"))
    shutil.rmtree(project.root / "build")
    other = {"AXFORGE_CACHE_DIR": str(tmp_path / "mine"), "AXFORGE_CACHE_TRUSTED_KEYS": public, **share, "AXFORGE_CACHE_MODE": "ro"}
    done = project.compile("--require-cached", **other)
    assert (done.ran(), done.err) == ([], "")
    (project.root / "axforge.toml").write_text('[cache]\ntrusted_keys = ["ed25519:oops"]\n')
    done = project.doit("compile:tiny", "--force")
    assert (done.status, "is not a public key" in done.err, "Traceback" in done.err) == (1, True, False)
