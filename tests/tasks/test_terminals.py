"""Output that is closed, read only in part, or a terminal that cannot draw: no traceback, and the build goes on."""

import os
import pty
import subprocess
import sys

import pytest
from tasks_support import Project

DOIT = f"'{sys.executable}' -m doit"


def shell(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=project.root, env=project.env(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("how", ["| head -n 1", "| true", ">&-", "2>&- >&-"])
def test_a_build_goes_on_when_nobody_reads(project: Project, how: str) -> None:
    project.fake_stages()
    done = shell(project, f"{DOIT} compile:tiny {how}")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (project.built / "model.axmodel").is_file()


@pytest.mark.parametrize("words", ["list", "help compile", "info tiny", "info compile:tiny:check", "compile:tiny --help", "cache inspect"])
def test_commands_may_be_read_in_part(project: Project, words: str) -> None:
    (project.root / "pyproject.toml").write_text(
        "[tool.doit.plugins.command]\n" + "".join(f'{n.lower()} = "axforge.tasks.doit_commands:{n}"\n' for n in ("List", "Info", "Help"))
    )
    done = shell(project, f"{DOIT} {words} | true")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("term, drawn", [("dumb", False), ("xterm", True)])
def test_only_a_terminal_that_can_gets_control_codes(project: Project, term: str, drawn: bool) -> None:
    project.fake_stages()
    master, slave = pty.openpty()
    environment = project.env(TERM=term, NO_COLOR="1")
    done = subprocess.Popen(project.command("compile:tiny"), cwd=project.root, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:
        pass  # the other end is closed
    assert done.wait() == 0
    assert (b"\x1b[" in seen) == drawn
    assert b"\x1b[32m" not in seen
    assert b"model.axmodel" in seen
