"""`axforge fit MODEL|ONNX`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, add_cores, add_roots
from axforge.usage import Parser, positive

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
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    return project.run([f"fit:{name_of(options.model, project)}"])
