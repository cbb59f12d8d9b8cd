"""`axforge compile MODEL…`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, add_compilation
from axforge.usage import Parser, positive

EXAMPLES = (
    "axforge compile efficientnet_lite0-imagenet",
    "axforge compile my.onnx --aipu-cores 4",
    "axforge compile my-detector my-classifier -j 2",
    "axforge compile my-detector:quantize       stops after a stage",
)


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Compile models: ONNX to an int8 .axmodel in build/NETWORK/MODEL/CORES.", EXAMPLES)
    found.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    found.add_argument("-j", "--jobs", type=positive, default=0, metavar="K", help="models to compile at once")
    add_compilation(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    return project.run([f"compile:{name_of(model, project)}" for model in options.models], jobs=options.jobs)
