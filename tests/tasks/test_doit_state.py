"""What we lean on in doit, and what we remember between runs."""

import inspect
import os
import shutil
import time
from pathlib import Path

import pytest

from axforge.tasks.project.doit_state import ContentChecker, same, settled_snapshots, snapshot
from axforge.tasks.project.plan import versions


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is old enough for its stamps to be certain."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    time.sleep(0.03)
    return path


def test_untouched_is_the_same_without_reading(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(str(file))
    monkeypatch.setattr("axforge.tasks.project.doit_state.content", lambda path: pytest.fail("it was read"))
    assert same(str(file), before)


def test_touched_is_the_same(file: Path) -> None:
    before = snapshot(str(file))
    os.utime(file, (1, 1))
    assert same(str(file), before)


def test_an_edit_of_equal_size_under_old_stamps_is_seen(file: Path) -> None:
    before, status = snapshot(str(file)), file.stat()
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not same(str(file), before)


def test_an_edit_in_the_same_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"content")
    before = snapshot(str(path))
    path.write_bytes(b"CONTENT")
    status = path.stat()
    before[0] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]  # as if no stamp had moved
    assert not same(str(path), before)


def test_another_file_with_the_same_content_is_the_same(file: Path, tmp_path: Path) -> None:
    before = snapshot(str(file))
    shutil.copy(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    assert same(str(file), before)


def test_a_folder_is_its_names(tmp_path: Path) -> None:
    before = snapshot(str(tmp_path))
    assert same(str(tmp_path), before)
    (tmp_path / "more").touch()
    assert not same(str(tmp_path), before)


def test_what_was_absent_is_the_same_while_it_is_absent(tmp_path: Path) -> None:
    before = snapshot(str(tmp_path / "none"))
    assert same(str(tmp_path / "none"), before)
    (tmp_path / "none").touch()
    assert not same(str(tmp_path / "none"), before)


def test_what_was_published_just_now_needs_no_reading_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"content")
    before = settled_snapshots([path])[str(path)]
    monkeypatch.setattr("axforge.tasks.project.doit_state.content", lambda path: pytest.fail("it was read"))
    assert same(str(path), before)


def test_the_checker_answers_doit(file: Path) -> None:
    checker = ContentChecker()
    state = checker.get_state(str(file), None)
    assert state is not None
    assert not checker.check_modified(str(file), file.stat(), state)
    assert checker.get_state(str(file), state) is None, "doit keeps the old state"
    file.write_bytes(b"other")
    assert checker.check_modified(str(file), file.stat(), state)


def test_doit_has_what_we_reach_into() -> None:
    from doit import doit_cmd
    from doit.dependency import Dependency, SqliteDB
    from doit.globals import Globals

    assert hasattr(Globals, "dep_manager")
    assert callable(Dependency.save_success)
    assert callable(SqliteDB.set)
    assert '"_values_:"' in inspect.getsource(Dependency.save_success).replace("'", '"')
    assert hasattr(doit_cmd, "_CMDLINE_VARS")
    assert "_conn" in SqliteDB.__init__.__code__.co_names


def test_the_version_of_a_library_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage asks, and each look-up parses the metadata of the distribution."""
    asked: list[str] = []
    monkeypatch.setattr("axforge.tasks.project.plan.version", lambda name: asked.append(name) or "1.0")
    assert versions(("not-installed-a", "not-installed-b")) == {"not-installed-a": "1.0", "not-installed-b": "1.0"}
    assert versions(("not-installed-b",)) == {"not-installed-b": "1.0"}
    assert asked == ["not-installed-a", "not-installed-b"]
