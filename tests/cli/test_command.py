"""The command itself: help, version, mistakes, closed output."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks_support import Answer

from axforge import __version__
from axforge.cli.commands import COMMANDS
from axforge.tasks.project import command_line

Axforge = Callable[..., Answer]


def test_version_and_help(axforge: Axforge) -> None:
    assert axforge("--version").out == f"axforge {__version__}\n"
    shown = axforge("--help")
    assert shown.status == 0
    assert all(name in shown.out for name in COMMANDS)
    assert axforge().out == shown.out


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("cache", "run")])
def test_every_command_has_help_with_examples(axforge: Axforge, command: str) -> None:
    shown = axforge(command, "--help")
    assert shown.status == 0
    assert shown.out.startswith(f"usage: axforge {command}")
    assert f"axforge {command}" in shown.out.partition("examples:")[2]
    assert axforge("help", command).out == shown.out


@pytest.mark.parametrize("command", ["cache", "run"])
def test_help_of_commands_that_others_answer(axforge: Axforge, command: str) -> None:
    assert axforge(command, "--help").out.startswith(f"usage: axforge {command}")


@pytest.mark.parametrize("command", ["compile", "infer", "serve"])
def test_every_option_of_the_tasks_is_an_option_of_the_command(axforge: Axforge, command: str) -> None:
    shown = axforge(command, "--help").out
    assert all(f"--{option.flag}" in shown for option in command_line.OF_GROUP[command])


def test_every_option_that_measuring_has_is_an_option_of_accuracy(axforge: Axforge) -> None:
    shown = axforge("accuracy", "--help").out
    assert all(f"--{option.flag}" in shown for option in command_line.OF_GROUP["accuracy"] if option.name not in ("save_output", "strict"))


def test_an_unknown_command_gets_the_nearest(axforge: Axforge) -> None:
    done = axforge("complie")
    assert done.status == 2
    assert "Did you mean compile" in done.err


def test_an_unknown_model_gets_the_nearest_and_the_variable_that_names_folders(axforge: Axforge) -> None:
    done = axforge("compile", "efficientnet_lite-imagenet")
    assert done.status == 1
    assert "efficientnet_lite0-imagenet" in done.err
    assert "AXFORGE_MODELS" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_options(axforge: Axforge, shell: str) -> None:
    script = axforge("completion", shell).out
    assert all(name in script for name in COMMANDS)
    assert "num-cal-images" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_bash_completes_models(axforge: Axforge, tmp_path: Path) -> None:
    (tmp_path / "axforge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m axforge.cli.main "$@"\n')
    (tmp_path / "axforge").chmod(0o755)
    ask = "COMP_WORDS=(axforge compile yolox); COMP_CWORD=2; _axforge; echo ${COMPREPLY[@]}"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = f"{axforge('completion', 'bash').out}\n{ask}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "yolox_nano" in done.stdout.split()


@pytest.mark.parametrize("how", ["| head -n 1", ">&-", "2>&- >&-", "| true"])
@pytest.mark.parametrize("words", ["list", "--help", "compile no_such_model"])
def test_output_that_nobody_reads_gives_no_traceback(axforge: Axforge, tmp_path: Path, words: str, how: str) -> None:
    command = f"'{sys.executable}' -m axforge.cli.main {words} {how}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
