"""What can be said behind a task: for `doit help compile` and `doit compile:MODEL --help`."""

import textwrap
from collections.abc import Sequence

from axforge.tasks.project.command_line import GROUPS, OF_GROUP

_USES = {
    "compile": "doit compile:MODEL [OPTION …]     or, up to a stage, compile:MODEL:STAGE",
    "infer": "doit infer:MODEL:SOURCE [OPTION …]     SOURCE: a picture, folder, video, sample:NAME, fakevideo:640x480 or an address",
    "serve": "doit serve:MODEL [OPTION …]     answers HTTP requests until Ctrl-C (docs/serving.md)",
    "report": "doit report:MODEL [OPTION …]     writes an HTML page on the compiled model (docs/aipu.md)",
    "fit": "doit fit:MODEL [OPTION …]     nothing is calibrated; status 1 if it does not fit",
    "accuracy": "doit accuracy:MODEL [OPTION …]     or accuracy, for all models whose data are there",
}


def lines(group: str) -> list[str]:
    """How a group of tasks is used, and its options; [] for a group without."""
    if group not in _USES:
        return []
    options = OF_GROUP[group]
    flags = [f"--{o.flag}" + ("" if o.kind is bool else " N" if o.kind is int else " TEXT") for o in options]
    width = max(map(len, flags)) + 2
    text = [_USES[group], "", "options, which stand behind the task, or as a variable before or behind it:"]
    for flag, option in zip(flags, options, strict=True):
        what = textwrap.wrap(f"{option.help} ({option.variable}=…)", 100 - width)
        text += [f"  {flag:{width}}{what[0]}", *(f"  {'':{width}}{line}" for line in what[1:])]
    return text


def asked_behind_a_task(words: Sequence[str]) -> str:
    """The group of tasks behind which `--help` or `-h` was typed; '' if it was not."""
    group = ""
    for word in words:
        if word == "cache":
            return ""  # answers that itself
        if word in ("--help", "-h"):
            return group
        if word.partition(":")[0] in GROUPS:
            group = word.partition(":")[0]
    return ""
