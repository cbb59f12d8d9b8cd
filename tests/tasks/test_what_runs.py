"""Change each input in turn: exactly the stages run that it truly decides, and early cutoff stops the rest."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tasks_support import STAGES, Project, make_project, tiny_model, write_picture

Change = Callable[[Project], None]
FROM_QUANTIZE = ["quantize", "optimize", "tile", "pack"]


def nothing(p: Project) -> None:
    pass


def touch(p: Project) -> None:
    for path in [p.onnx, p.descriptor, *p.pictures.iterdir()]:
        os.utime(path, (1, 1))


def document(p: Project) -> None:
    onnx.save(tiny_model(doc="written by somebody"), p.onnx)


def weights(p: Project) -> None:
    onnx.save(tiny_model(seed=1), p.onnx)


def threshold(p: Project) -> None:
    p.describe(postprocessing=[{"type": "topk", "k": 1}])


def labels(p: Project) -> None:
    p.describe(labels=["a", "b", "c", "d", "e"], description="new words", license="MIT")


def order_of_keys(p: Project) -> None:
    p.descriptor.write_text(json.dumps(dict(reversed(json.loads(p.descriptor.read_text()).items()))))


def defaults_written_out(p: Project) -> None:
    p.describe(compile={"tile": {"cores": 1}, "quantize": {"exclude": []}})


def picture_renamed(p: Project) -> None:
    (p.pictures / "img_0.png").rename(p.pictures / "other_name.png")


def picture_copied_with_old_stamps(p: Project) -> None:
    source = p.pictures / "img_1.png"
    shutil.copy2(source, p.root / "copy.png")
    (p.root / "copy.png").replace(source)


def picture_changed(p: Project) -> None:
    write_picture(p.pictures / "img_2.png", 77)


def picture_changed_under_old_stamps(p: Project) -> None:
    path = p.pictures / "img_2.png"
    before = path.stat()
    write_picture(path, 78)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def picture_removed(p: Project) -> None:
    (p.pictures / "img_3.png").unlink()


def normalization(p: Project) -> None:
    p.describe(preprocessing=[{"type": "resize", "width": 16, "height": 16}, {"type": "normalize", "mean": 0.4, "std": 0.25}])


def scheme(p: Project) -> None:
    p.describe(compile={"quantize": {"scheme": "minmax"}})


def algorithm_that_needs_nothing_more(p: Project) -> None:
    p.describe(compile={"quantize": {"algorithms": {"bias_correction": False}}})


def algorithm_that_rewrites_nothing_here(p: Project) -> None:
    p.describe(compile={"quantize": {"algorithms": {"equalize": {"limit": 1}}}})


def cores(p: Project) -> None:
    p.describe(compile={"tile": {"cores": 2}})


def published_file_damaged(p: Project) -> None:
    path = p.built / "model.axmodel"
    path.chmod(0o644)
    path.unlink()
    path.write_bytes(b"not a model")


CASES: list[tuple[Change, list[str]]] = [
    (nothing, []),
    (touch, []),
    (document, ["fetch", "check"]),
    (weights, list(STAGES)),
    (threshold, []),
    (labels, []),
    (order_of_keys, []),
    (defaults_written_out, []),
    (picture_renamed, []),
    (picture_copied_with_old_stamps, []),
    (picture_changed, ["calibrate", *FROM_QUANTIZE]),
    (picture_changed_under_old_stamps, ["calibrate", *FROM_QUANTIZE]),
    (picture_removed, ["calibrate", *FROM_QUANTIZE]),
    (normalization, ["calibrate", *FROM_QUANTIZE]),
    (scheme, FROM_QUANTIZE),
    (algorithm_that_needs_nothing_more, FROM_QUANTIZE),
    (algorithm_that_rewrites_nothing_here, ["calibrate", "quantize"]),
    (cores, ["tile", "pack"]),
    (published_file_damaged, []),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the project has been compiled once, somewhere else."""
    folder = tmp_path_factory.mktemp("built")
    assert make_project(folder / "project", folder / "cache").compile().ran() == list(STAGES)
    return folder / "cache"


@pytest.mark.parametrize("change, expected", CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_only_what_the_change_decides_runs(cache: Path, tmp_path: Path, change: Change, expected: list[str]) -> None:
    own = shutil.copytree(cache, tmp_path / "cache")
    project = make_project(tmp_path / "elsewhere", own)
    assert set(project.compile().stages().values()) == {"restored"}, "another folder is no reason to run"
    change(project)
    assert project.compile().ran() == expected
    assert set(project.compile().stages().values()) == {"up to date"}


def test_another_data_root_with_other_pictures_is_another_calibration(cache: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "elsewhere", shutil.copytree(cache, tmp_path / "cache"))
    project.compile()
    other = tmp_path / "other data"
    (other / "pictures").mkdir(parents=True)
    shutil.copy(project.onnx, other)
    write_picture(other / "pictures" / "x.png", 1234)
    assert project.compile(AXFORGE_DATA_ROOT=str(other)).ran() == ["calibrate", *FROM_QUANTIZE]


def test_fewer_pictures_by_option_is_another_calibration(cache: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "elsewhere", shutil.copytree(cache, tmp_path / "cache"))
    assert project.compile("--num-cal-images", "2").ran() == ["calibrate", *FROM_QUANTIZE]
    assert project.compile("--num-cal-images", "2").stages()["calibrate"] == "up to date"
    assert project.compile("images=4").stages()["calibrate"] == "restored", "what was built from 2 pictures is not up to date"
    assert project.compile("--num-cal-images", "3").ran() == ["calibrate", *FROM_QUANTIZE], "an up-to-date build does not hide the option"


def test_a_file_given_instead_of_the_source_is_another_model(cache: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "elsewhere", shutil.copytree(cache, tmp_path / "cache"))
    onnx.save(tiny_model(seed=9), project.root / "mine.onnx")
    assert project.compile("onnx=mine.onnx").ran() == list(STAGES)
    assert project.compile().ran() == []
