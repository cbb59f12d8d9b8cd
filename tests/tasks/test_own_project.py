"""What docs/doit.md promises to a project of somebody else."""

import re
import shutil
from pathlib import Path

from tasks_support import Project

DOC = Path(__file__).resolve().parents[2] / "docs" / "doit.md"


def test_the_dodo_of_the_document_gives_the_same_tasks(project: Project) -> None:
    text = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert text is not None
    (project.root / "dodo.py").write_text(text[1])
    (project.root / "models").rename(project.root / "my_models")
    done = project.doit("compile:tiny")
    assert done.status == 0, done.out + done.err
    assert (project.built / "model.axmodel").is_file()


def test_own_tasks_may_depend_on_ours(project: Project) -> None:
    project.fake_stages()
    own = "\ndef task_ship():\n    return {'actions': ['cp %(dependencies)s shipped'], 'file_dep': ['build/tiny/tiny/1/model.axmodel'],"
    own += " 'task_dep': ['compile:tiny'], 'targets': ['shipped']}\n"
    with (project.root / "dodo.py").open("a") as dodo:
        dodo.write(own)
    done = project.doit("ship")
    assert done.status == 0, done.out + done.err
    assert (project.root / "shipped").read_bytes() == (project.built / "model.axmodel").read_bytes()


def test_models_may_be_named_by_the_environment(project: Project) -> None:
    (project.root / "dodo.py").write_text("from axforge.tasks import DOIT_CONFIG, task_compile\n")
    shutil.move(project.root / "models", project.root / "elsewhere")
    assert "compile:tiny" not in project.doit("list", "--all").out
    assert "compile:tiny" in project.doit("list", "--all", AXFORGE_MODELS="elsewhere").out


def test_an_own_model_goes_before_one_of_the_zoo(project: Project) -> None:
    own = project.root / "models" / "yolox_nano"
    own.mkdir()
    (own / "model.json").write_text(project.descriptor.read_text().replace("a tiny classifier", "my own"))
    assert "my own" in project.doit("list", "--all", "compile").out
