"""A build says so when most of the work does not run on the AIPU, and names the nodes."""

import json
import re

from tasks_support import Project, answer

SPLIT = {"check": {"end_nodes": ["r1"]}}


def test_a_network_on_the_aipu_needs_no_warning(project: Project) -> None:
    done = project.doit("compile:tiny")
    assert done.status == 0, done.err
    assert "multiply-add" not in done.out + done.err
    assert re.search(r"model\.axmodel \(predicted: [\d,]+ to [\d,]+ frames/s on the PCIe card\)", done.out)
    work = json.loads(next((project.root / "build").rglob("support.json")).read_text())["multiply_adds"]
    assert work == {"total": work["aipu"], "aipu": 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 16 * 5, "elsewhere": []}


def test_a_network_for_the_most_part_on_the_cpu_is_reported_when_checked_and_at_the_end(project: Project) -> None:
    project.describe(compile=SPLIT)
    done = project.doit("compile:tiny")
    assert done.status == 0, done.err
    warning = "tiny: warning: only 43 % of the multiply-adds run on the AIPU; most of the rest:\n"
    assert warning in done.err
    named = done.err.partition(warning)[2].splitlines()
    assert named[0].strip() == "Conv 'conv2', 57 %: it comes after compile.check.end_nodes"
    assert named[1].strip().startswith("Gemm 'gemm', less than 1 %")
    assert "model.axmodel (only 43 % of the multiply-adds run on the AIPU; predicted: " in done.out
    again = project.doit("compile:tiny")
    assert "model.axmodel (only 43 % of the multiply-adds run on the AIPU; predicted: " in again.out, "also when there is nothing to do"


def test_axforge_check_shows_the_warning(project: Project) -> None:
    project.describe(compile=SPLIT)
    done = answer([*project.command()[:1], "-m", "axforge.cli.main", "check", "tiny"], project.root, project.env())
    assert done.status == 0, done.err
    assert "warning: only 43 %" in done.out
