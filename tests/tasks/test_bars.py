"""The bar of a compilation on consoles of several widths."""

import io

import pytest
from rich.console import Console

from axforge.tasks.project.progress import Channel
from axforge.tasks.screen.bars import Bars


@pytest.mark.parametrize("model", ["a", "efficientnet_lite0-imagenet", "a-name-that-nobody-would-give-to-a-model-but-somebody-does"])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_percentage_and_clock_are_seen_at_every_width(monkeypatch: pytest.MonkeyPatch, width: int, model: str) -> None:
    drawn = io.StringIO()
    bars = Bars(drawn, Channel())
    bars._console = Console(file=drawn, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    bars.start(model, "calibrate")
    bars.update(model, "calibrate", 50, 100, "sample 50 of 100 with a long note that does not fit on any line of the console, ever")
    assert bars._progress is not None
    shown = Console(file=io.StringIO(), width=width, record=True)
    shown.print(bars._progress.get_renderable())
    lines = shown.export_text().rstrip("\n").splitlines()
    bars.close()
    assert len(lines) == 1
    assert len(lines[0]) <= width
    assert " 21% " in lines[0]
    assert "(0m 00s)" in lines[0]
    assert ("█" in lines[0]) == (width >= 70)
