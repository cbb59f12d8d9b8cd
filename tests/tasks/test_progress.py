"""On a terminal: one bar a model that names it and the stage, also with workers; and the screen is left in order."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from tasks_support import Project


@pytest.fixture
def quick(project: Project) -> Project:
    """A project with two models whose stages are stand-ins."""
    project.fake_stages()
    for name in ("one", "two"):
        path = project.root / "models" / name / "model.json"
        path.parent.mkdir()
        path.write_text(
            json.dumps(json.loads(project.descriptor.read_text()) | {"name": name, "compile": {"check": {"end_nodes": [name]}}})
        )
    return project


def on_terminal(project: Project, *words: str, interrupt_after: float = 0, **environment: str) -> tuple[int, str]:
    """Run doit on a pseudo-terminal; returns its status and what it wrote."""
    master, slave = pty.openpty()
    env = project.env(TERM="xterm-256color", COLUMNS="120", **environment)
    process = subprocess.Popen(
        project.command(*words), cwd=project.root, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    written, start = b"", time.monotonic()
    while True:
        if interrupt_after and time.monotonic() - start > interrupt_after:
            os.killpg(process.pid, signal.SIGINT)
            interrupt_after = 0
        try:
            written += os.read(master, 65536)
        except OSError:  # the terminal is closed
            break
    os.close(master)
    return process.wait(60), written.decode()


def plain(text: str) -> str:
    """Without control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_bar_names_the_model_and_the_stage_and_ends_full(quick: Project) -> None:
    status, written = on_terminal(quick, "compile:tiny", STAGE_SECONDS="0.3")
    assert status == 0, written
    text = plain(written)
    assert re.search(r"Compiling tiny for Metis\.\.\. \[█+ +\] +\d+% \(0m 0\ds\) quantize", text)
    assert re.search(r"Compiling tiny for Metis\.\.\. \[█{24}\] 100% \(0m 0\ds\)", text)
    *_, published, cached = written.rstrip().splitlines()
    assert published.endswith("build/tiny/tiny/1/model.axmodel")
    assert cached.startswith("cache: 0 of 7 stages restored")
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h"), "the cursor is shown again"


def test_each_model_has_its_bar_with_workers(quick: Project) -> None:
    status, written = on_terminal(quick, "-n", "2", "compile:one", "compile:two", STAGE_SECONDS="0.3")
    assert status == 0, written
    for name in ("one", "two"):
        assert re.search(rf"Compiling {name} for Metis\.\.\. +\[█{{24}}\] 100%", plain(written))
    assert "Traceback" not in written


def test_an_up_to_date_build_draws_no_bar(quick: Project) -> None:
    quick.compile()
    _, written = on_terminal(quick, "compile:tiny")
    assert "Compiling" not in written


@pytest.mark.parametrize("words", [["compile:tiny"], ["-n", "2", "compile:one", "compile:two"]])
def test_an_interrupt_leaves_the_screen_in_order(quick: Project, words: list[str]) -> None:
    status, written = on_terminal(quick, *words, interrupt_after=1.2, STAGE_SECONDS="3")
    assert status != 0
    assert "Traceback" not in written, written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")
    left = quick.doit("run", *words)
    assert left.status == 0, left.out + left.err
