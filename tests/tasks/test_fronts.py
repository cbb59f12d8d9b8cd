"""compile.py and inference.py: ordinary commands that run the same tasks, from any folder."""

import os
import sys
from pathlib import Path

import pytest
from tasks_support import Answer, answer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def front(tmp_path: Path) -> "Front":
    return Front(tmp_path)


class Front:
    """Runs a script of the repository in some other folder, with its own cache and build folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AXFORGE_")}
        self.env = kept | {"AXFORGE_CACHE_DIR": str(folder / "cache"), "AXFORGE_BUILD_ROOT": str(folder / "build")}

    def __call__(self, script: str, *words: str) -> Answer:
        return answer([sys.executable, str(ROOT / script), *words], self.folder, self.env)


@pytest.mark.parametrize("script", ["compile.py", "inference.py"])
def test_help_names_the_options(front: Front, script: str) -> None:
    done = front(script, "--help")
    assert done.status == 0
    for option in ("--aipu-cores", "--num-cal-images", "--build-root", "--data-root", "--force"):
        assert option in done.out


def test_help_of_inference_names_its_own(front: Front) -> None:
    done = front("inference.py", "--help")
    for option in ("--pipe", "--frames", "--save-output"):
        assert option in done.out


def test_an_unknown_model_gets_the_nearest_name(front: Front) -> None:
    done = front("compile.py", "efficientnet_lite-imagenet")
    assert done.status == 1
    assert "efficientnet_lite0-imagenet" in done.err
    assert "Traceback" not in done.err


def test_wrong_use_is_status_2(front: Front) -> None:
    assert front("compile.py").status == 2
    assert front("inference.py", "model").status == 2
    assert front("compile.py", "x", "--aipu-cores", "7").status == 2


def test_fp32_inference_of_a_photo_works_from_any_folder_without_compiling(front: Front) -> None:
    done = front("inference.py", "efficientnet_lite0-imagenet", "sample:grace_hopper", "--pipe", "torch", "--save-output", "here.png")
    assert done.status == 0, done.out + done.err
    assert "military uniform" in done.out
    assert (front.folder / "here.png").is_file()
    assert (front.folder / "here.json").is_file()
    assert not (front.folder / "build" / "efficientnet_lite0-imagenet" / "efficientnet_lite0-imagenet" / "stages" / "check").exists()


def test_a_source_with_an_equals_sign_reaches_the_source(front: Front) -> None:
    done = front("inference.py", "efficientnet_lite0-imagenet", "no=such&picture.png", "--pipe", "onnx")
    assert done.status == 1
    assert f"{front.folder}/no=such&picture.png" in done.err


def test_an_unknown_sample_lists_the_known(front: Front) -> None:
    done = front("inference.py", "efficientnet_lite0-imagenet", "sample:grace_hoper", "--pipe", "onnx")
    assert done.status == 1
    assert "grace_hopper" in done.err
