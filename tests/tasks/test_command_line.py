"""Plain doit: what it lists, what it says about mistakes, and that nothing heavy is imported to say it."""

import sqlite3
import sys

import pytest
from tasks_support import STAGES, Project, answer

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "cv2", "msgspec", "yaml", "matplotlib", "axforge.cache.store")

#: Runs doit in-process and tells which modules that loaded.
PROBE = """\
import sys
from doit.doit_cmd import DoitMain
status = DoitMain().run(sys.argv[1:])
print("LOADED", *sorted(m for m in {heavy} if m in sys.modules))
sys.exit(status)
"""


def loaded(project: Project, *words: str) -> list[str]:
    """Which heavy modules a command loads."""
    done = answer([sys.executable, "-c", PROBE.replace("{heavy}", repr(HEAVY)), *words], project.root, project.env())
    assert done.status == 0, done.out + done.err
    return next(line for line in done.out.splitlines() if line.startswith("LOADED")).split()[1:]


def test_doit_alone_says_what_one_can_do(project: Project) -> None:
    done = project.doit()
    assert done.status == 0
    for words in ("doit compile:MODEL", "doit infer:MODEL:SOURCE", "doit accuracy", "doit cache inspect"):
        assert words in done.out
    assert not (project.root / "build" / "tiny").exists()


def test_list_shows_groups_and_all_shows_every_stage(project: Project) -> None:
    groups = [line.split()[0] for line in project.doit("list").out.splitlines()]
    assert groups == ["accuracy", "cache", "compile", "fit", "infer", "report", "serve", "usage"]
    everything = [line.split()[0] for line in project.doit("list", "--all").out.splitlines()]
    assert [f"compile:tiny:{stage}" in everything for stage in STAGES] == [True] * 7
    assert "accuracy:tiny" in everything
    assert "compile:efficientnet_lite0-imagenet:pack" in everything, "the zoo that comes with axforge is there too"


def test_info_of_a_task_says_what_it_reads_and_why_it_would_run(project: Project) -> None:
    done = project.doit("info", "compile:tiny:quantize")
    assert "checked.onnx" in done.out
    assert "status     : " in done.out
    assert "configuration, sources, versions and outputs are what they were" in done.out
    assert "Traceback" not in done.err


def test_tab_completion_knows_the_tasks(project: Project) -> None:
    script = project.doit("tabcompletion")
    assert script.status == 0
    assert "--quiet --all ${basetask}" in script.out, "the question that the script asks"
    assert "compile:tiny:pack" in project.doit("list", "--quiet", "--all", "compile").out.split()


@pytest.mark.parametrize("words", [["list"], ["list", "--all"], ["usage"], ["info", "--no-status", "compile:tiny"]])
def test_looking_imports_nothing_heavy(project: Project, words: list[str]) -> None:
    assert loaded(project, *words) == []


def test_an_up_to_date_build_imports_nothing_heavy(project: Project) -> None:
    project.fake_stages()
    project.compile()
    assert loaded(project, "compile:tiny") == []


def test_words_that_decide_nothing_are_thought_about_once(project: Project) -> None:
    """The first build after an edit that changes no stage checks the configuration in depth; the next one knows."""
    project.fake_stages()
    project.compile()
    project.describe(description="new words")
    assert "msgspec" in loaded(project, "compile:tiny")
    assert loaded(project, "compile:tiny") == []


def test_only_the_model_that_is_asked_for_is_opened(project: Project) -> None:
    broken = project.root / "models" / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{ not json")
    project.fake_stages()
    project.compile()
    done = project.doit("compile:broken")
    assert done.status == 1
    assert "broken/model.json" in done.err
    listed = project.doit("list", "--all")
    assert listed.status == 0
    assert "compile:tiny:pack" in listed.out
    assert "broken is left out" in listed.err


@pytest.mark.parametrize(
    "words, expected",
    [
        (["compile:tinny"], "Did you mean 'tiny'?"),
        (["infer:tinny:x.png"], "Did you mean 'tiny'?"),
        (["accuracy:tinny"], "Did you mean 'tiny'?"),
        (["cache", "explain", "tinny"], "Did you mean 'tiny'?"),
        (["compile:tiny:quantise"], "Did you mean 'quantize'"),
        (["compile:tiny", "core=2"], "Did you mean 'cores'"),
        (["compile:tiny", "cores=two"], "whole number"),
        (["compile:tiny", "cores=5"], "1 to 4 cores"),
        (["compile:tiny", "onnx=nothing.onnx"], "The file does not exist"),
        (["infer:tiny:x.png", "pipe=simm"], "Did you mean 'sim'?"),
        (["infer:tiny"], "has no source"),
        (["infer:tiny:nothing.png"], "no such file or folder"),
        (["infer:tiny:fakevideo:8x8", "--frames", "-1"], "--frames takes a whole number of at least 1"),
        (["compile:tiny", "--num-cal-images", "0"], "--num-cal-images takes a whole number of at least 1"),
        (["compile:tiny", "--bogus"], "It takes --aipu-cores"),
        (["compile:tiny", "--frames", "3"], "Option --frames not recognized"),
        (["compile:tiny", "--build-root", "tiny.onnx/x"], "Name another folder with --build-root"),
        (["compile:tiny", "--data-root", "nowhere"], "nowhere/"),
        (["infer"], "needs a model and a source"),
        (["infer:tiny:rtsp://u:p@h/x?a=1", "usage"], "cannot be used together with"),
        (["accuracy:tiny"], "names no dataset"),
        (["cache", "clean"], "Nothing to clean"),
        (["compile:../tiny"], "There is no model"),
    ],
)
def test_a_mistake_gets_one_sentence_and_status_1(project: Project, words: list[str], expected: str) -> None:
    done = project.doit(*words)
    assert expected in done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert done.status == 1


def test_a_mistake_in_model_json_names_its_place(project: Project) -> None:
    project.describe(preprocessing=[{"type": "rezise", "width": 8, "height": 8}])
    done = project.doit("compile:tiny")
    assert done.status == 1
    assert "rezise" in done.err
    assert "Did you mean 'resize'" in done.err
    assert "Traceback" not in done.err


def test_a_bad_stage_option_names_its_place(project: Project) -> None:
    project.describe(compile={"quantize": {"shceme": "mse"}})
    done = project.doit("compile:tiny")
    assert done.status == 1
    assert "'scheme'" in done.err


def test_a_task_of_one_stage_stops_there(project: Project) -> None:
    project.fake_stages()
    assert project.doit("compile:tiny:check").status == 0
    assert (project.built.parent / "stages" / "check" / "checked.onnx").is_file()
    assert not (project.built.parent / "stages" / "quantize").exists()


def test_cores_by_option_and_by_variable_are_the_same(project: Project) -> None:
    project.fake_stages()
    project.compile("--aipu-cores", "2")
    assert project.compile("cores=2").ran() == []
    assert (project.built.with_name("2") / "model.axmodel").is_file()
    assert project.compile().ran() == ["tile", "pack"]


def test_no_control_codes_where_there_is_no_terminal(project: Project) -> None:
    project.fake_stages()
    done = project.doit("compile:tiny")
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out


def test_the_state_of_doit_survives_another_process(project: Project) -> None:
    project.fake_stages()
    project.compile()
    with sqlite3.connect(project.root / "build" / ".doit.sqlite") as db:
        names = {row[0] for row in db.execute("select task_id from doit")}
    assert {f"compile:tiny:{stage}" for stage in STAGES} <= names


def test_a_group_goes_on_after_a_mistake_and_ends_with_status_1(project: Project) -> None:
    project.fake_stages()
    other = project.root / "models" / "absent" / "model.json"
    other.parent.mkdir()
    other.write_text(project.descriptor.read_text().replace("tiny.onnx", "absent.onnx"))
    done = project.doit("compile:*t*y*", "compile:absent")
    assert "absent.onnx" in done.err
    assert (project.built / "model.axmodel").is_file()
    assert done.status == 1
