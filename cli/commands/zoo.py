"""`axforge zoo`: the models that come along; with a word, the table of published networks, and models of your own made like known ones."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axruntime.propose import __main__ as propose
from axforge.cli.command import add_roots
from axforge.cli.commands.init import written
from axforge.usage import Parser

if TYPE_CHECKING:
    from axforge.axruntime.propose.proposal import Proposal

EXAMPLES = (
    "axforge zoo",
    "axforge zoo list --task pose --license AGPL       published networks, by task, licence, size",
    "axforge zoo show resnet18-imagenet-onnx",
    "axforge zoo fetch resnet18-imagenet-onnx",
    "axforge zoo check                                 descriptors, and files that are here",
    "axforge zoo add my.onnx --like yolov8n-coco       fed and read as that model is",
    "axforge zoo import network.yaml                   a network of the vendor's SDK",
)


def parser(prog: str) -> Parser:
    """Its options, without an action."""
    found = Parser(prog, "Show the models that come with axforge: task, licence of the weights, and what each needs.", EXAMPLES)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    if words and words[0] in ("list", "show", "fetch", "check"):
        return _published(words, prog)
    if words and words[0] in ("add", "import"):
        return (_add if words[0] == "add" else _import)(words[1:], f"{prog} {words[0]}")
    options = parser(prog).parse_args(words)
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit
    from axforge.tasks import listing
    from axforge.tasks.screen.display import table

    settings = UserProject(options).settings()
    models = [model for model in listing.listed(settings) if not model.own]
    rows = [[m.name, m.task, "yes" if m.ready else "no", m.weights, m.license] for m in models]
    table(f"{len(models)} models come with axforge", ["model", "task", "ready", "weights", "licence"], rows)
    if settings.data_root is None and any(not model.ready for model in models):
        print("The data root is a folder with models/FILE.onnx: --data-root or AXFORGE_DATA_ROOT.")
    print("axforge zoo list shows the published networks that compile by their names too.")
    return 0


def _published(words: Sequence[str], prog: str) -> int:
    """An action on the table, which `doit zoo` has too."""
    from axforge.cli.tasks_runner import UserProject  # --help of `axforge zoo` needs no doit
    from axforge.tasks.published_commands import ACTIONS

    action = ACTIONS[words[0]]
    found = Parser(f"{prog} {words[0]}", action.help)
    action.add(found)
    add_roots(found)
    options = found.parse_args(words[1:])
    project = UserProject(options)
    return action.run(options, project.settings(), project.run)


def _add(words: Sequence[str], prog: str) -> int:
    examples = (
        "axforge zoo add my.onnx --like yolov8n-coco",
        "axforge zoo add my.onnx          reads the graph alone, as axforge init does",
    )
    found = Parser(prog, "Write a model.json for an ONNX of your own.", examples)
    propose.add_options(found)
    found.add_argument("--like", default="", metavar="MODEL", help="a model, or a network of the table, whose steps are taken over")
    options = found.parse_args(words)
    if options.like and options.try_it:
        found.error("--like says how it is fed, and --try finds that out; give one of them")
    options.onnx = options.onnx.absolute()
    return written(options, prog, _like if options.like else propose.proposed)


def _import(words: Sequence[str], prog: str) -> int:
    found = Parser(prog, "Write a model.json for a network YAML of the vendor's SDK, and say what could not be mapped.")
    found.add_argument("yaml", type=Path, metavar="FILE.yaml")
    found.add_argument("--network", default="", metavar="NAME", help="which one, where the file has several")
    propose.add_destination(found)
    options = found.parse_args(words)
    options.yaml = options.yaml.absolute()
    return written(options, prog, _imported)


def _like(options: argparse.Namespace) -> "Proposal":
    from axforge.axruntime.propose.like import propose_like  # loads onnx
    from axforge.tasks.project import zoo
    from axforge.tasks.project.command_line import ModelOptions
    from axforge.tasks.project.plan import BuildPlan
    from axforge.tasks.project.settings import PROJECT

    here = PROJECT.settings()
    like = BuildPlan(zoo.find(options.like, here), ModelOptions(), here).descriptor
    return propose_like(options.onnx, like, [*options.labels, propose.shipped_labels()], options.data_root, options.name)


def _imported(options: argparse.Namespace) -> "Proposal":
    from axforge.axruntime.propose.voyager.network import imported  # loads onnx

    return imported(options.yaml, [*options.labels, propose.shipped_labels()], options.name, options.network)
