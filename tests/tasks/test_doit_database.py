"""A damaged database of doit is set aside with a sentence; a sound one is left alone."""

import sqlite3
from pathlib import Path

import pytest
from tasks_support import Project

from axforge.tasks.project.doit_database import heal


def sound(path: Path, data: object = '{"a": 1}') -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("create table doit (task_id text not null primary key, task_data json)")
        connection.executemany("insert into doit values (?, ?)", [(f"task{i}", data) for i in range(300)])
    connection.close()
    return path


def middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(range(256)) * 16
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database" * 999),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        middle,
        lambda path: (path.unlink(), sound(path, "{")),
        lambda path: (path.unlink(), sound(path, "[1]")),
    ],
    ids=["text", "cut", "noise", "no json", "a list"],
)
def test_what_is_damaged_is_set_aside(tmp_path: Path, damage, capsys: pytest.CaptureFixture[str]) -> None:
    path = sound(tmp_path / ".doit.sqlite")
    damage(path)
    (tmp_path / ".doit.sqlite-journal").write_bytes(b"")
    heal(path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".doit.sqlite.damaged-journal") == [".doit.sqlite.damaged"]
    assert "was damaged. It is set aside as" in capsys.readouterr().err


def test_what_is_sound_new_or_locked_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sound(tmp_path / ".doit.sqlite")
    heal(path)
    heal(tmp_path / "absent")
    (tmp_path / "empty").touch()
    heal(tmp_path / "empty")
    with sqlite3.connect(path) as connection:
        connection.execute("begin exclusive")
        heal(path)
        connection.rollback()
    connection.close()
    assert path.exists()
    assert (tmp_path / "empty").exists()
    assert capsys.readouterr().err == ""


def test_a_build_goes_on_after_its_database_was_damaged(quick: Project) -> None:
    assert quick.doit("compile:tiny").status == 0
    database = quick.root / "build" / ".doit.sqlite"
    database.write_bytes(b"x" * 5000)
    again = quick.doit("compile:tiny")
    assert again.status == 0
    assert "set aside" in again.err
    assert quick.doit("compile:tiny").status == 0
