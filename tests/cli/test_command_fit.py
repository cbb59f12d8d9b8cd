"""`axforge fit`: an answer before anything is calibrated."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tasks_support import Answer, Project

from axforge.axcompiler import target
from axforge.axruntime.prediction.boards import boards
from axforge.axruntime.prediction.work import Work

Axforge = Callable[..., Answer]


def test_what_fits_is_predicted_without_pictures(axforge: Axforge, project: Project) -> None:
    project.describe(calibration={"path": "no-such-folder", "count": 9})
    done = axforge("fit", "tiny", "--fps", "1", cwd=project.root)
    assert done.status == 0, done.err
    assert "tiny: it fits metis, on 1 core" in done.out
    assert "tiny: 100% of " in done.out
    assert "frames/s on the PCIe card" in done.out
    assert "1 frames/s on the M.2 module: yes, at this size" in done.out
    assert not list((project.root / "build").rglob("ranges.json")), "nothing was calibrated for good"


def test_what_does_not_fit_says_by_how_much(axforge: Axforge, project: Project) -> None:
    """An AIPU of the user's own, with two words of L1; the boards have another one."""
    metis = (Path(target.__file__).parent / "targets" / "metis.yaml").read_text()
    small = (
        metis.replace("bytes: 4_194_304, reserved: 182_784", "bytes: 4096, reserved: 0")
        .replace("name: metis", "name: small")
        .replace("word_bytes: 64 ", "word_bytes: 2048 ")
    )
    project.descriptor.with_name("small.yaml").write_text(small)
    project.describe(compile={"tile": {"target": "small.yaml"}})
    done = axforge("fit", "tiny", cwd=project.root)
    assert done.status == 1, done.err
    assert "tiny: it does not fit: " in done.out
    assert "bytes of L1, a core has 4,096" in done.out
    assert "times smaller" in done.out
    assert "predicted" not in done.out


def test_a_size_of_input_for_frames_per_second() -> None:
    card = boards()[0]
    work = Work(4_000_000, 10_000_000, 5_000_000)
    fps = card.slow * card.frames_per_second(work)
    assert card.area_for(work, fps) == pytest.approx(1)
    half = card.area_for(work, 2 * fps)
    smaller = msgspec.structs.replace(card, pace=card.pace * half, ddr=card.ddr * half)
    assert smaller.slow * smaller.frames_per_second(work) == pytest.approx(2 * fps)
    assert card.area_for(work, 1e9) < 0


def test_doit_answers_too(project: Project) -> None:
    project.describe(calibration={"path": "no-such-folder", "count": 9})
    done = project.doit("fit:tiny", "--fps", "1")
    assert done.status == 0, done.err
    assert "tiny: it fits metis, on 1 core" in done.out
    assert "1 frames/s on the M.2 module: yes, at this size" in done.out
    refused = project.doit("fit:tiny", "--pipe", "sim")
    assert refused.status == 1
    assert "It takes --aipu-cores" in refused.err
