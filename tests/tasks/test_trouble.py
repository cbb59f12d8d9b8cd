"""Failed, killed and competing builds: nothing half-written, no finished stage lost, nothing done twice."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from tasks_support import STAGES, Project, write_picture

from axforge.axcompiler.stages import BY_NAME


def log(project: Project) -> Counter[str]:
    """How often each stage really ran."""
    path = project.root / "ran.log"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def started(project: Project, stage: str, **environment: str) -> subprocess.Popen[str]:
    """doit in the background, once `stage` has begun."""
    process = subprocess.Popen(
        project.command("compile:tiny"),
        cwd=project.root,
        env=project.env(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not log(project)[stage]:
        assert time.monotonic() < deadline, "the build did not get there"
        assert process.poll() is None, "the build ended before"
        time.sleep(0.01)
    return process


def leftovers(project: Project) -> list[str]:
    """Files below build/ that no stage declares."""
    known = {"model.onnx", "model.json", *(name for stage in BY_NAME.values() for name in stage.outputs)}
    files = [p for p in (project.root / "build").rglob("*") if p.is_file()]
    return [p.name for p in files if p.name not in known and not p.name.startswith((".doit.sqlite", ".doit-code.json"))]


def test_a_bug_in_a_stage_keeps_what_was_finished_and_shows_its_traceback(quick: Project) -> None:
    failed = quick.doit("compile:tiny", FAIL_IN="quantize")
    assert failed.status != 0
    assert "RuntimeError: a bug" in failed.err
    assert leftovers(quick) == []
    assert not (quick.built / "model.axmodel").exists()
    assert quick.compile().ran() == ["quantize", "optimize", "tile", "pack"]
    assert log(quick)["check"] == 1


@pytest.mark.parametrize("stage", ["check", "quantize", "pack"])
def test_kill_at_any_stage_loses_no_finished_stage(quick: Project, stage: str) -> None:
    process = started(quick, stage, STAGE_SECONDS="0.4")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert leftovers(quick) == []
    again = quick.compile()
    assert again.ran() == list(STAGES[STAGES.index(stage) :])
    assert all(count == (2 if name == stage else 1) for name, count in log(quick).items())


def test_interrupt_ends_quietly_and_keeps_what_was_finished(quick: Project) -> None:
    process = started(quick, "quantize", STAGE_SECONDS="0.4")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert "Stopped" in err
    assert leftovers(quick) == []
    assert quick.compile().ran() == ["quantize", "optimize", "tile", "pack"]


def test_two_builds_at_once_do_each_stage_once(quick: Project) -> None:
    one, two = (
        subprocess.Popen(
            quick.command("compile:tiny"),
            cwd=quick.root,
            env=quick.env(STAGE_SECONDS="0.2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    for process in (one, two):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert log(quick) == Counter(dict.fromkeys(STAGES[1:], 1))  # fetch is real, and not in the log
    assert set(quick.compile().stages().values()) == {"up to date"}


def test_a_failing_build_does_not_lock_out_another(quick: Project) -> None:
    other = quick.root / "models" / "other"
    other.mkdir()
    (other / "model.json").write_text(quick.descriptor.read_text().replace('"tiny"', '"other"').replace("tiny.onnx", "missing.onnx"))
    slow = subprocess.Popen(
        quick.command("run", "-c", "compile:other", "compile:tiny"),
        cwd=quick.root,
        env=quick.env(STAGE_SECONDS="2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    done = quick.doit("compile:tiny:check")
    slow.wait(60)
    assert done.status == 0, done.out + done.err


def test_models_compile_in_parallel_workers(quick: Project) -> None:
    for name, percentile in (("one", 98.5), ("two", 97.5)):
        path = quick.root / "models" / name / "model.json"
        path.parent.mkdir()
        document = json.loads(quick.descriptor.read_text()) | {"name": name, "compile": {"quantize": {"percentile": percentile}}}
        path.write_text(json.dumps(document))
    done = quick.doit("-n", "2", "compile:one", "compile:two")
    assert done.status == 0, done.out + done.err
    for name in ("one", "two"):
        assert (quick.root / "build" / name / name / "1" / "model.axmodel").is_file()
        assert f"compile:{name}:pack: ran" in done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize("damage", ["truncated", "edited", "emptied", "deleted"])
@pytest.mark.parametrize(
    "file", ["1/model.axmodel", "1/manifest.json", "1/model.json", "stages/quantize/quantized.onnx", "stages/tile-1/schedule.json"]
)
def test_a_damaged_output_is_noticed_and_restored(quick: Project, file: str, damage: str) -> None:
    quick.compile()
    path = quick.built.parent / file
    before = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        path.write_bytes({"truncated": before[:-1], "edited": b"x" + before[1:], "emptied": b""}[damage])
    again = quick.compile()
    assert path.read_bytes() == before
    assert again.ran() == []


def test_deleting_the_build_folder_restores_without_compiling(quick: Project) -> None:
    quick.compile()
    before = {p: p.read_bytes() for p in quick.built.iterdir()}
    subprocess.run(["rm", "-rf", "build"], cwd=quick.root, check=True)
    assert set(quick.compile().stages().values()) == {"restored"}
    assert {p: p.read_bytes() for p in quick.built.iterdir()} == before


def test_clean_removes_what_was_built_and_the_cache_keeps_it(quick: Project) -> None:
    quick.compile()
    assert quick.doit("clean", "compile:tiny", "compile:tiny:*").status == 0
    assert not quick.built.exists()
    assert quick.compile().ran() == []


def test_force_compiles_again(quick: Project) -> None:
    quick.compile()
    assert quick.compile("--force").ran() == list(STAGES)
    assert log(quick)["pack"] == 2


def test_an_input_that_changes_during_the_run_is_not_recorded(quick: Project) -> None:
    process = started(quick, "calibrate", STAGE_SECONDS="0.5")
    write_picture(quick.pictures / "img_0.png", 55)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "changed while it ran" in err
    assert "calibrate" in quick.compile().ran()


def test_a_cache_that_cannot_be_written_costs_a_warning(quick: Project, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache should be")
    done = quick.doit("compile:tiny", AXFORGE_CACHE_DIR=str(blocked / "cache"))
    assert done.status == 0, done.out + done.err
    assert "cache: " in done.err
    assert (quick.built / "model.axmodel").is_file()


def test_a_damaged_entry_of_the_cache_is_told_set_aside_and_made_again(quick: Project) -> None:
    quick.compile()
    axmodel = quick.built / "model.axmodel"
    before = axmodel.read_bytes()
    stored = [p for p in (quick.root.parent / "cache").rglob("*") if p.is_file() and p.read_bytes() == before]
    assert stored
    for path in [axmodel, *stored]:
        path.chmod(0o644)
        path.write_bytes(before[:-1] + b"?")
    again = quick.compile()
    assert axmodel.read_bytes() == before
    assert again.ran() == ["pack"]
    assert "cache: " in again.err, "a sentence on what happened"


def test_what_a_killed_process_left_half_published_is_removed_by_the_next(quick: Project) -> None:
    quick.compile()
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = f"{os.uname().nodename}-{dead.pid}-1f-00000000"
    for folder in (quick.built, quick.built.parent / "stages" / "quantize"):
        (folder / f".model.json.{left}").write_text("half")
    (quick.built / "model.json").unlink()
    (quick.built.parent / "stages" / "quantize" / "quantized.onnx").unlink()
    quick.compile()
    assert leftovers(quick) == []
