"""`--explain` and `doit cache explain` name the input that changed, from what to what."""

import json
import shutil
from pathlib import Path

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


def test_require_cached_runs_nothing_and_names_what_differs(quick: Project) -> None:
    done = quick.compile("--require-cached")
    assert done.ran() == []
    before = (quick.root / "ran.log").read_text()
    (quick.built / "model.axmodel").unlink()
    assert quick.compile("--require-cached").stages()["pack"] == "restored"
    quick.describe(compile={"quantize": {"scheme": "minmax"}})
    done = quick.doit("compile:tiny", "--require-cached")
    assert done.status == 1
    assert "The result of quantize is not in the cache" in done.err
    assert "quantize.scheme: effect → minmax" in done.err
    assert "Traceback" not in done.err
    assert (quick.root / "ran.log").read_text() == before


def test_require_cached_in_an_empty_cache_and_with_force(project: Project) -> None:
    project.fake_stages()
    done = project.doit("compile:tiny", "require_cached=1")
    assert done.status == 1
    assert "The result of fetch is not in the cache" in done.err
    assert "no other result of this stage to compare with" in done.err
    assert not (project.root / "ran.log").exists()
    done = project.doit("compile:tiny", "--require-cached", "--force")
    assert (done.status, "Give one of them" in done.err) == (1, True)


def test_require_cached_with_a_damaged_content_runs_nothing_either(quick: Project, tmp_path: Path) -> None:
    """What is found damaged only while it is restored."""
    shutil.rmtree(quick.root / "build")
    for path in Path(quick.environment["AXFORGE_CACHE_DIR"]).glob("v1/cas/*/*"):
        path.chmod(0o644)
        path.write_bytes(bytes(path.stat().st_size))
    before = (quick.root / "ran.log").read_text()
    done = quick.doit("compile:tiny", "--require-cached")
    assert (done.status, "The result of fetch is not in the cache" in done.err) == (1, True)
    assert (quick.root / "ran.log").read_text() == before


def test_the_last_line_says_what_the_cache_saved(quick: Project) -> None:
    assert "cache:" not in quick.doit("compile:tiny").out, "nothing was asked of it"
    quick.describe(compile={"quantize": {"scheme": "minmax"}})
    shutil.rmtree(quick.root / "build")
    last = quick.doit("compile:tiny").out.splitlines()[-1]
    assert last == "cache: 3 of 7 stages restored (fetch 1/1, check 1/1, calibrate 1/1, quantize 0/1, optimize 0/1, tile 0/1, pack 0/1)"


def test_two_keys_are_compared(quick: Project) -> None:
    quick.describe(compile={"quantize": {"scheme": "minmax"}})
    quick.compile()
    rows = json.loads(quick.doit("cache", "inspect", "tiny", "--json").out)["records"]
    one, other = sorted(row["key"] for row in rows if row["stage"] == "quantize")
    done = quick.doit("cache", "diff", one, other)
    assert done.status == 1
    assert "quantize.scheme: " in done.out
    assert "quantized.onnx: " in done.out
    done = quick.doit("cache", "diff", one[:8], one)
    assert (done.status, "both gave the same bytes" in done.out) == (0, True)
    assert "There is no record 'ffffffffff'" in quick.doit("cache", "diff", one, "f" * 10).err
