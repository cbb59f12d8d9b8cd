"""`axforge fit MODEL|ONNX`"""

import contextlib
import io
from collections.abc import Sequence

from axforge.axcompiler.errors import AxforgeError
from axforge.cli.command import MODEL_HELP, Parser, add_cores, add_roots, positive

EXAMPLES = ("axforge fit my.onnx", "axforge fit my-detector --fps 30")


def parser(prog: str) -> Parser:
    """Its options."""
    what = (
        "Say in seconds, before anything is calibrated, whether a network fits the AIPU, what runs on the CPU, how many frames per "
        "second the vendor's boards make of it, and what would help. Status 1 if it does not fit."
    )
    found = Parser(prog, what, EXAMPLES)
    found.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    found.add_argument(
        "--fps", type=positive, default=0, metavar="N", help="frames per second that are wanted: which input would reach them"
    )
    add_cores(found)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status. Raises AxforgeError where the network cannot be read."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks import fitting
    from axforge.tasks.project import zoo
    from axforge.tasks.project.command_line import ModelOptions
    from axforge.tasks.project.plan import BuildPlan
    from axforge.tasks.project.settings import PROJECT

    project = UserProject(options)
    name = name_of(options.model, project)
    here = project.settings()
    plan = BuildPlan(zoo.find(name, here), ModelOptions(cores=options.cores), here)
    PROJECT.only_looks = True
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = project.run([f"compile:{name}:check"])
    if status:
        sentence = said.getvalue().rpartition(f"ERROR in compile:{name}:")[2].partition("\n")[2].strip()
        raise AxforgeError(sentence or said.getvalue().strip(), where=name)
    fits, lines = fitting.answer(plan, options.fps)
    for line in lines:
        print(f"{name}: {line}")
    return 0 if fits else 1
