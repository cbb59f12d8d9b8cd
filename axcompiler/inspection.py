"""What the command line shows of passes: a list of all of them, and a model as text after one of them."""

import difflib
import importlib
import importlib.util
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.passes import Pass, PassResult
from axforge.axcompiler.stages import STAGES


def passes_of(stage: str) -> tuple[Pass[Any], ...]:
    """The passes of a stage, in order: `PASSES` of its package. Empty for a stage that has none."""
    name = f"{__package__}.{stage}"
    if importlib.util.find_spec(name) is None:
        return ()
    return getattr(importlib.import_module(name), "PASSES", ())


def listing() -> str:
    """Every pass of every stage: its name, its options with their defaults, and what it does in a line."""
    lines = []
    for stage in STAGES:
        found = passes_of(stage.name)
        lines += [stage.name] if found else []
        for one in found:
            options = "".join(f" {name}={value!r}" for name, value in one.options.items())
            lines.append(f"  {one.name + options:<44} {one.summary}")
    return "\n".join(lines) + "\n"


class Dump:
    """An observer that keeps the model as text after each run of one pass that changed something (or after the last run).

    Runs that follow one another directly, because the pass changes one place at a time, count as one.
    """

    def __init__(self, name: str) -> None:
        known = [one.name for stage in STAGES for one in passes_of(stage.name)]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            fix = f"Did you mean '{near[0]}'?" if near else "--print-passes lists them."
            raise AxforgeError(f"there is no pass '{name}'", where="--dump-after", fix=fix)
        self._name = name
        self._sections: list[tuple[tuple[str, ...], str]] = []
        self._unchanged = ""
        self._running: Pass[Any] | None = None

    def __call__(self, one: Pass[Any], result: PassResult[Any]) -> None:
        """Take note of one run of a pass."""
        if one.name == self._name and result.changed:
            before = self._sections.pop()[0] if self._running is one and self._sections else ()
            self._sections.append(((*before, *result.changed), one.text(result.ir)))
            self._running = one
        elif one.name == self._name:
            self._unchanged = one.text(result.ir)
        if one.name != self._name:
            self._running = None

    @property
    def text(self) -> str:
        """All that was kept; each part begins with what the pass changed."""
        if not self._sections:
            return f"# after {self._name}, which changed nothing\n{self._unchanged}"
        return "\n".join(
            "\n".join([f"# after {self._name}, which", *(f"#   {note}" for note in notes), text]) for notes, text in self._sections
        )
