"""`axforge accuracy [MODEL…]`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, add_compilation, add_engine
from axforge.usage import Parser

EXAMPLES = (
    "axforge accuracy                            all models whose data sets are there",
    "axforge accuracy yolox_nano --data-root /data",
    "axforge accuracy my-classifier --frames 200 --pipe sim",
)


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Measure the fp32 model and the compiled one on the model's dataset; status 1 if it is worse.", EXAMPLES)
    found.add_argument("models", nargs="*", metavar="MODEL", help=MODEL_HELP)
    add_engine(found)
    found.add_argument(
        "--fail-above", default="", metavar="POINTS", help="fail when int8 loses more (default: what model.json allows, else 2)"
    )
    found.add_argument("--junit", default="", metavar="FILE", help="also write the verdicts into this file, as JUnit XML")
    found.add_argument(
        "--layers", action="store_true", help="show which tensors the loss comes from and what would help; needs no data set"
    )
    add_compilation(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    return project.run([f"accuracy:{name_of(model, project)}" for model in options.models] or ["accuracy"])
