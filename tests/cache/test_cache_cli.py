"""`python -m axforge.cache`: reports that are right, as text and as JSON; mistakes end with a sentence and status 1."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cache_support import BIG, build, make_store, tree_of

from axforge.cache.cli import main, parse_age
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.store import Store


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two models of three stages each, which share the first; each stage reads what the one before gave."""
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(tmp_path / "c"))
    monkeypatch.chdir(tmp_path)
    store, _ = make_store(tmp_path / "c")
    for model, scheme in (("yolo", "mse"), ("resnet", "minmax")):
        first = build(store, b"source", tmp_path / model, label=model, scope=str(tmp_path), changes={"stage": "check"}).record
        second = build(
            store,
            b"second",
            tmp_path / model,
            label=model,
            scope=str(tmp_path),
            changes={
                "inputs": {"checked": first.output("big.bin").sha256, "images": tree_of({"a.jpg": b"1", "b.jpg": b"2"})},
                "config": {"scheme": scheme},
            },
        ).record
        changes = {"stage": "pack", "inputs": {"quantized": second.output("small.json").sha256}, "config": {"name": model}}
        build(store, b"third", tmp_path / model, label=model, scope=str(tmp_path), changes=changes)
    return store


def as_json(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> Any:
    assert main([*argv, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def as_text(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    assert main(list(argv)) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def test_totals(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    data = as_json(capsys, "inspect")
    assert data["records"] == 5, "check is shared by both models"
    assert data["hits"] == {"local": 1, "remote": 0}
    assert data["ran"] == 5
    assert data["hit_rate"] == round(1 / 6, 4)
    assert data["bytes_saved_by_sharing"] >= 2 * BIG
    assert data["unreferenced"] == 0
    assert [(row["model"], row["stage"]) for row in data["models"]] == [
        ("resnet", "pack"),
        ("resnet", "quantize"),
        ("yolo", "check"),
        ("yolo", "pack"),
        ("yolo", "quantize"),
    ]
    text = as_text(capsys, "inspect")
    assert "hit rate 16.7 %" in text
    assert "largest:" in text


def test_one_model_one_record_one_content_one_file(filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = as_json(capsys, "inspect", "resnet")
    assert sorted(row["stage"] for row in model["records"]) == ["check", "pack", "quantize"], "also what it shares with others"
    assert all(build["cached"] for build in model["last_builds"])
    quantize = next(row["key"] for row in model["records"] if row["stage"] == "quantize")
    record = as_json(capsys, "inspect", quantize[:10])
    assert [row["stage"] for row in record["ancestors"]] == ["check"]
    assert [row["stage"] for row in record["dependents"]] == ["pack", "pack"]
    assert record["log"] == "worked on 6 bytes\n"
    assert record["config"] == {"scheme": "minmax"}
    inputs = {item["name"]: item for item in record["inputs"]}
    assert inputs["images"]["files"] == ["a.jpg", "b.jpg"]
    assert [row["stage"] for row in inputs["checked"]["made_by"]] == ["check"]
    content = as_json(capsys, "inspect", sha256(b"1"))
    assert {row["input"] for row in content["used_by"]} == {"images/a.jpg"}
    file = as_json(capsys, "inspect", str(tmp_path / "yolo" / "small.json"))
    assert {row["output"] for row in file["made_by"]} == {"small.json"}
    for what in ("resnet", quantize[:10], sha256(b"1"), str(tmp_path / "yolo" / "small.json")):
        assert as_text(capsys, "inspect", what)


def test_explain_names_the_difference(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    text = as_text(capsys, "explain", "resnet")
    assert "quantize.scheme: mse → minmax" in text
    data = as_json(capsys, "explain", "resnet")
    assert {item["stage"] for item in data} == {"pack", "quantize"}


def test_clean_and_verify_and_stats(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    filled.close()
    would = as_json(capsys, "clean", "--model", "resnet", "--dry-run")
    assert (would["records"], would["dry_run"]) == (2, True)
    assert "would be removed" in as_text(capsys, "clean", "--all", "--dry-run")
    assert as_json(capsys, "verify")["sound"]
    assert as_json(capsys, "clean", "--model", "resnet")["records"] == 2
    assert as_json(capsys, "stats")["ran"] == 5, "counters survive cleaning"
    assert as_json(capsys, "stats", "--reset")["ran"] == 0
    blob = next(path for path in (filled.layout.cas).rglob("*") if path.is_file() and path.stat().st_size == BIG)
    blob.chmod(0o644)
    blob.write_bytes(b"\0" * BIG)
    data = as_json(capsys, "verify", status=1)
    assert len(data["damaged"]) == 1
    assert {row["label"] for row in data["rebuilt"]} == {"yolo"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["inspect", "nobody"], "not a file, a hash or a model"),
        (["inspect", "012345abcdef"], "not a file, a hash or a model"),
        (["explain", "nobody"], "no model or record"),
        (["clean"], "Nothing to clean was named"),
        (["clean", "--model", "yol"], "There are results of: resnet, yolo"),
        (["clean", "--older-than", "soon"], "is not an age"),
        (["clean", "--keep-size", "some"], "is not a size"),
    ],
)
def test_mistakes_are_sentences(filled: Store, capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    assert words in as_text(capsys, *argv, status=1)


def test_a_file_that_was_never_built_says_so(filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own").write_bytes(b"mine")
    assert "No record in the cache made or used this content" in as_text(capsys, "inspect", str(tmp_path / "own"), status=1)


def test_ages() -> None:
    assert [parse_age(text) for text in ("30d", "12 h", "90min", "2w", "1")] == [2592000, 43200, 5400, 1209600, 86400]
    with pytest.raises(CacheError):
        parse_age("-1d")


def test_as_a_program_without_doit(tmp_path: Path) -> None:
    environ = {**os.environ, "AXFORGE_CACHE_DIR": str(tmp_path / "c")}
    for argv in (["--help"], ["clean", "--help"], ["inspect"], ["inspect", "--json"]):
        done = subprocess.run([sys.executable, "-m", "axforge.cache", *argv], capture_output=True, text=True, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
    wrong = subprocess.run([sys.executable, "-m", "axforge.cache", "dance"], capture_output=True, text=True, env=environ)
    assert wrong.returncode == 2


def test_control_characters_from_a_record_do_not_reach_the_terminal(
    tmp_path: Path, filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    build(filled, b"x", tmp_path / "d", label="evil\x1b[2Jname")
    assert "\x1b" not in as_text(capsys, "inspect")
