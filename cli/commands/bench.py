"""`axforge bench MODEL|FILE`"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from axforge.axruntime.bench import __main__ as bench
from axforge.cli.command import add_cores, add_roots
from axforge.usage import Parser

EXAMPLES = (
    "axforge bench efficientnet_lite0-imagenet --threads 1",
    "axforge bench build/my/my/1 --seconds 20 --json",
    "axforge bench my.onnx      onnxruntime alone",
)


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Measure how fast a compiled model runs here, and onnxruntime on the same ONNX.", EXAMPLES)
    found.add_argument(
        "file",
        metavar="MODEL|FILE",
        help="name of a model, which is compiled if needed; an .axmodel, a bundle, a compiled folder, or an .onnx",
    )
    bench.add_options(found)
    add_cores(found)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    file = Path(options.file)
    if not file.exists() and file.suffix not in (".onnx", ".axmodel", ".zip") and len(file.parts) == 1:
        if status := _compiled(options):
            return status
    else:
        options.file = file
    return bench.run(options, prog)


def _compiled(options: argparse.Namespace) -> int:
    """Compile the model that was named, and put its folder in its place; gives the exit status."""
    from axforge.cli.tasks_runner import UserProject  # a file needs no doit
    from axforge.tasks.project import zoo
    from axforge.tasks.project.command_line import ModelOptions
    from axforge.tasks.project.plan import BuildPlan

    if options.onnx:
        options.onnx = options.onnx.absolute()
    project = UserProject(argparse.Namespace(cores=options.cores, build_root=options.build_root, data_root=options.data_root))
    plan = BuildPlan(zoo.find(options.file, project.settings()), ModelOptions(cores=options.cores), project.settings())
    options.file = plan.own or plan.published
    return project.run([f"compile:{plan.model.name}"])
