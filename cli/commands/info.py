"""`axforge info MODEL`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, add_cores, add_roots
from axforge.usage import Parser

EXAMPLES = ("axforge info efficientnet_lite0-imagenet", "axforge info my.onnx")


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Show one model: where it comes from, its pipeline, what is built.", EXAMPLES)
    found.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_cores(found)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks import describing

    project = UserProject(options)
    print("\n".join(describing.lines(name_of(options.model, project), project.settings(), options.cores)))
    return 0
