"""`axforge zoo`: the models that come along; with a word, the table of published networks, and models of your own made like known ones."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axruntime.propose import __main__ as propose
from axforge.cli.command import Parser, add_roots
from axforge.cli.commands.init import written

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
    if words and words[0] in ACTIONS:
        return ACTIONS[words[0]](words[1:], f"{prog} {words[0]}")
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


def _list(words: Sequence[str], prog: str) -> int:
    found = Parser(prog, "Show published networks. What is not asked for does not matter.")
    found.add_argument("words", nargs="*", metavar="WORD", help="parts of the name")
    found.add_argument("--task", default="", help="classification, detection, pose, instance-segmentation, segmentation, …")
    found.add_argument("--license", default="", metavar="TEXT", help="a part of the licence; none: not published")
    found.add_argument("--max-parameters", type=_millions, default=0.0, metavar="MILLIONS", help="at most so many weights")
    found.add_argument("--ready", action="store_true", help="only networks whose ONNX has an address")
    found.add_argument("--all", action="store_true", help="those that cannot be compiled too, with the reason")
    found.add_argument("--json", action="store_true", help="as JSON, for scripts")
    add_roots(found)
    options = found.parse_args(words)
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit
    from axforge.tasks import published
    from axforge.tasks.screen.display import table

    settings = UserProject(options).settings()
    search = published.NetworkSearch(options.words, options.task, options.license, options.max_parameters, options.all, options.ready)
    networks = search.found()
    if options.json:
        print(published.as_json(networks))
        return 0
    table(f"{len(networks)} published networks", published.HEAD, [published.row(network, settings) for network in networks])
    for network in networks if options.all else ():
        if not network.family:
            print(f"{network.name}: {network.reason}")
    if not options.all:
        print("--all lists those that cannot be compiled too, with the reason. Accuracy, loss and frames/s are the vendor's.")
    return 0


def _show(words: Sequence[str], prog: str) -> int:
    found = Parser(prog, "Show all that is known of a published network.")
    found.add_argument("name", metavar="NETWORK")
    found.add_argument("--model-json", action="store_true", help="the model.json that is made of it")
    add_roots(found)
    options = found.parse_args(words)
    from axforge.ax_models.zoo import table  # --help needs no table
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks import published

    settings = UserProject(options).settings()
    network = published.find(options.name)
    print(table.text(network).decode() if options.model_json else "\n".join(published.lines(network, settings)))
    return 0


def _fetch(words: Sequence[str], prog: str) -> int:
    found = Parser(prog, "Download networks, going on where an earlier download ended, and compare them with the checksum of the table.")
    found.add_argument("names", nargs="+", metavar="NETWORK")
    add_roots(found)
    options = found.parse_args(words)
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit
    from axforge.tasks import published

    project = UserProject(options)
    status = project.run([published.fetch_task(name) for name in options.names])
    for name in options.names:
        print("\n".join(published.fetched_lines(name, project.settings())))
    return status


def _check(words: Sequence[str], prog: str) -> int:
    found = Parser(
        prog, "Check that networks of the table make sound descriptors, and that files which are here have the table's checksum."
    )
    found.add_argument("names", nargs="*", metavar="NETWORK", help="all without one")
    add_roots(found)
    options = found.parse_args(words)
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit
    from axforge.tasks import published

    settings = UserProject(options).settings()
    chosen = [published.find(name) for name in options.names] or published.NetworkSearch().found()
    checked = [published.problems(network, settings) for network in chosen]
    wrong = [problem for problems, _ in checked for problem in problems]
    files = sum(count for _, count in checked)
    found_wrong = f"{len(wrong) or 'no'} problem{'s' * (len(wrong) != 1)}"
    print("\n".join([*wrong, f"{len(chosen)} descriptors and {files} files checked: {found_wrong}."]))
    return 1 if wrong else 0


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


def _millions(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of millions above 0")
    return number


#: What may follow the command.
ACTIONS: dict[str, Callable[[Sequence[str], str], int]] = {
    "list": _list,
    "show": _show,
    "fetch": _fetch,
    "check": _check,
    "add": _add,
    "import": _import,
}
