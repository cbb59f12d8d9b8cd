"""`axforge check MODEL|ONNX`"""

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from axforge.cli.command import MODEL_HELP, add_cores, add_roots
from axforge.usage import Parser

if TYPE_CHECKING:
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks.project.checking import Finding, OnCpu
    from axforge.tasks.project.plan import BuildPlan

EXAMPLES = ("axforge check my-detector", "axforge check my.onnx")


def parser(prog: str) -> Parser:
    """Its options."""
    what = (
        "Look for mistakes in a model before anything is compiled, and show what will not run on the AIPU. Status 1 if there is an error."
    )
    found = Parser(prog, what, EXAMPLES)
    found.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_cores(found)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks.project import checking, zoo
    from axforge.tasks.project.command_line import ModelOptions
    from axforge.tasks.project.plan import BuildPlan
    from axforge.tasks.project.settings import PROJECT

    project = UserProject(options)
    name = name_of(options.model, project)
    here = project.settings()
    plan = BuildPlan(zoo.find(name, here), ModelOptions(cores=options.cores), here)
    found = checking.described(plan)
    unsupported: list[OnCpu] = []
    if checking.readable(plan):
        PROJECT.only_looks = True
        found, unsupported = _with_network(project, plan, found)
    _show(name, found, unsupported)
    return int(any(finding.level == "error" for finding in found))


def _with_network(project: "UserProject", plan: "BuildPlan", found: "list[Finding]") -> "tuple[list[Finding], list[OnCpu]]":
    """The findings with those that need the network: fetch it, and look where its operators run."""
    from axforge.tasks.project import checking

    for stage in ("fetch", "check"):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = project.run([f"compile:{plan.model.name}:{stage}"])
        if status:
            sentence = said.getvalue().rpartition(f"ERROR in compile:{plan.model.name}:{stage}\n")[2].strip()
            return [*found, checking.Finding("error", sentence)], []
        if stage == "fetch":
            found = [*found, *checking.against_network(plan)]
    return [*found, *checking.offloaded(plan)], checking.on_cpu(plan)


def _show(name: str, found: "Sequence[Finding]", unsupported: "Sequence[OnCpu]") -> None:
    from axforge.tasks.screen.display import table

    for finding in found:
        print(f"{name}: {finding.line()}")
    if not found:
        print(f"{name}: no mistakes found")
    if unsupported:
        places = {"preprocess": "CPU, before the network", "postprocess": "CPU, after the network", "cpu": "CPU, in between"}
        rows = [
            [o.op_type, str(o.count), places.get(o.place, o.place), f"{o.values:,}" if o.values else "?", o.reason] for o in unsupported
        ]
        table("not on the AIPU, in float32:", ["operator", "nodes", "runs on", "values", "why"], rows)
        print("values: how many numbers they compute for each picture")
