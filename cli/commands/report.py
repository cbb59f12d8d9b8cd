"""`axforge report MODEL`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, add_compilation
from axforge.usage import Parser

EXAMPLES = ("axforge report yolox_nano", "axforge report my.onnx --aipu-cores 4")


def parser(prog: str) -> Parser:
    """Its options."""
    what = (
        "Write an HTML page on a compiled model, which needs no network: where its layers run, when each unit of each core works, memory, "
        "what limits it and what would help. It is compiled first if needed."
    )
    found = Parser(prog, what, EXAMPLES)
    found.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_compilation(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    return project.run([f"report:{name_of(options.model, project)}"])
