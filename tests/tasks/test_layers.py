"""`doit accuracy:MODEL --layers` needs no data set, and leaves its result as JSON and as a page."""

import json

import pytest
from tasks_support import Project


def test_layers_of_a_model_without_a_data_set(project: Project) -> None:
    pytest.importorskip("plotly")
    done = project.doit("accuracy:tiny", "--layers")
    assert done.status == 0, done.err
    assert "signal to noise of the outputs" in done.out
    assert "the worst first" in done.out
    found = json.loads(next((project.root / "build").rglob("layers.json")).read_text())
    assert found["tensors"]
    assert next((project.root / "build").rglob("layers.html")).read_text().startswith("<!DOCTYPE html>")
    refused = project.doit("accuracy:tiny")
    assert refused.status == 1
    assert "names no dataset" in refused.err


def test_a_report_has_the_noise_that_was_measured(project: Project) -> None:
    done = project.doit("report:tiny")
    assert done.status == 0, done.err
    assert "tiny: report: build/tiny/tiny/results/report-1.html" in done.out
    page = project.root / "build" / "tiny" / "tiny" / "results" / "report-1.html"
    assert '"noise":null' in page.read_text()
    assert project.doit("accuracy:tiny", "--layers").status == 0
    assert project.doit("report:tiny").status == 0
    assert '"noise":null' not in page.read_text()
    bare = project.doit("report")
    assert bare.status == 1
    assert "report needs a model." in bare.err
