"""`--explain` and `doit cache explain` name the input that changed, from what to what."""

import json
import shutil

import pytest
from tasks_support import STAGES, Project, write_picture


@pytest.fixture
def quick(project: Project) -> Project:
    """A compiled project whose stages are stand-ins."""
    project.fake_stages()
    project.compile()
    return project


def explained(project: Project, *words: str) -> dict[str, str]:
    """What `doit cache explain tiny` says, by stage."""
    done = project.doit("cache", "explain", "tiny", *words)
    assert done.status == 0, done.out + done.err
    parts = {}
    for line in done.out.splitlines():
        if not line.startswith(" "):
            stage, _, _ = line.partition(":")
        parts[stage] = parts.get(stage, "") + line + "\n"
    return parts


def test_a_first_build_says_so(project: Project) -> None:
    project.fake_stages()
    assert "not built here before" in project.compile().out


def test_nothing_changed(quick: Project) -> None:
    assert explained(quick) == {stage: f"{stage}: up to date\n" for stage in STAGES}


def test_a_changed_option_is_named_with_both_values(quick: Project) -> None:
    quick.describe(compile={"quantize": {"scheme": "minmax"}})
    told = explained(quick)
    assert "quantize: would run" in told["quantize"]
    assert "quantize.scheme: effect → minmax" in told["quantize"]
    assert told["calibrate"] == "calibrate: up to date\n"
    assert "quantize runs first" in told["tile"]
    assert "quantize.scheme: effect → minmax" in quick.compile().out


def test_changed_images_are_counted_and_named(quick: Project) -> None:
    write_picture(quick.pictures / "img_2.png", 99)
    assert "1 image changed (img_2.png)" in explained(quick)["calibrate"]
    assert "1 image changed (img_2.png)" in quick.compile().out
    (quick.pictures / "img_0.png").unlink()
    assert "1 image removed (img_0.png)" in explained(quick)["calibrate"]


def test_what_the_cache_has_would_be_restored(quick: Project) -> None:
    quick.describe(compile={"tile": {"cores": 2}})
    quick.compile()
    quick.describe(compile=None)
    shutil.rmtree(quick.built)
    shutil.rmtree(quick.built.parent / "stages" / "tile-1")
    told = explained(quick)
    assert "tile: would be restored" in told["tile"]
    assert "tile.cores: 2 → 1" in told["tile"]
    assert "pack: would be restored" in told["pack"]


def test_a_missing_output_is_no_changed_input(quick: Project) -> None:
    path = quick.built.parent / "stages" / "optimize" / "graph.axgraph"
    path.unlink()
    told = explained(quick)["optimize"]
    assert "would be restored" in told
    assert "no input changed" in told
    assert not path.exists(), "explaining restores nothing"


def test_explaining_runs_nothing(project: Project) -> None:
    project.fake_stages()
    done = project.doit("cache", "explain", "tiny", "--json")
    verdicts = json.loads(done.out)
    assert [v["stage"] for v in verdicts] == list(STAGES)
    assert verdicts[0]["verdict"] == "would run"
    assert verdicts[-1]["waits_for"] == "fetch"
    assert not (project.root / "ran.log").exists()


def test_inspect_and_verify_see_the_build(quick: Project) -> None:
    assert "tiny" in quick.doit("cache", "inspect").out
    assert quick.doit("cache", "verify").status == 0
    assert json.loads(quick.doit("cache", "inspect", "--json").out)
    assert quick.doit("cache", "clean", "--all").status == 0
    subject = explained(quick)["quantize"]
    assert "would run" in subject


def test_a_stage_that_runs_is_compared_with_the_last_build_and_with_the_nearest_in_the_cache(quick: Project) -> None:
    for scheme in ("minmax", "mse"):
        quick.describe(compile={"quantize": {"scheme": scheme}})
        quick.compile()
    quick.describe(compile={"quantize": {"scheme": "minmax", "exclude": ["conv1"]}})
    out = quick.compile().out
    assert "\n    quantize.scheme: mse → minmax" in out
    assert "\n    quantize.exclude: " in out
    assert "against the nearest in the cache (tiny): quantize.exclude" in out
    assert "against the nearest in the cache (tiny): quantize.scheme" not in out
