"""`doit list`, `doit info`, `doit help` and `--help` behind a task."""

import pytest
from tasks_support import Answer, Project

from axforge.tasks import doit_commands
from axforge.tasks.project.command_line import OF_GROUP, OPTIONS


@pytest.fixture
def doit(project: Project):
    """doit in a project that has turned our commands on as their page says."""
    text = (doit_commands.__doc__ or "").partition("\n\n")[2]
    (project.root / "pyproject.toml").write_text(text)

    def run(*words: str) -> Answer:
        return project.doit(*words)

    return run


def test_list_shows_models_and_hides_stages(doit) -> None:
    done = doit("list")
    assert done.status == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("  tiny ")]
    assert line.split() == ["tiny", "classification", "here", "-"]
    assert "compile:tiny" not in done.out
    assert "compile:tiny:check" in doit("list", "--all").out


def test_info_is_for_people(doit) -> None:
    done = doit("info", "tiny")
    assert done.status == 0, done.err
    assert "a tiny classifier" in done.out
    assert "topk" in done.out
    assert doit("info", "compile:tiny").out == done.out
    stage = doit("info", "compile:tiny:check").out
    assert "would run: yes" in stage
    assert "support.json" in stage
    assert "{" not in stage
    assert "Did you mean 'tiny'" in doit("info", "tinny").err


@pytest.mark.parametrize("words", [("help", "compile"), ("compile:tiny", "--help"), ("compile:tiny", "-h")])
def test_help_shows_the_options(doit, words: tuple[str, ...]) -> None:
    done = doit(*words)
    assert done.status == 0, done.err
    assert all(
        f"--{option.flag}" in done.out and f"({option.variable}=…)" in done.out.replace("\n", "")
        for option in OPTIONS
        if option.flag == "force"
    )
    assert all(f"--{option.flag}" in done.out for option in OPTIONS)
    assert "--pipe" not in done.out
    assert all(f"--{option.flag}" in doit("infer:tiny:x.png", "--help").out for option in OF_GROUP["infer"])
    assert "--fail-above" in doit("accuracy:tiny", "--help").out


def test_zoo_is_the_table_of_published_networks(doit) -> None:
    listed = doit("zoo", "list", "yolo11", "--task", "pose")
    assert listed.status == 0, listed.out + listed.err
    assert "yolo11npose-coco-onnx" in listed.out
    assert "BSD-3-Clause" in doit("zoo", "show", "resnet18-imagenet-onnx").out
    assert "no problems" in doit("zoo", "check", "resnet18-imagenet-onnx").out
    for words, status, said in (
        (("show", "resnet18-imagenet-on"), 1, "resnet18-imagenet-onnx"),
        (("fetch", "yolov8l-coco"), 1, "PyTorch checkpoint"),
        (("fetch", "resnet18-imagenet-onnx", "--task"), 2, "unrecognized"),
        ((), 2, "list|show|fetch|check"),
    ):
        done = doit("zoo", *words)
        assert done.status == status, done.out + done.err
        assert said in done.err
        assert "Traceback" not in done.err
