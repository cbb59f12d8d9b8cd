"""What `axforge zoo` and `doit zoo` do with the table of published networks: list, show, fetch, check."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from axforge.ax_models.zoo import table
from axforge.tasks import published
from axforge.tasks.project.settings import Settings
from axforge.tasks.screen import display

#: Runs tasks by their names; gives the exit status.
RunTasks = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class ZooAction:
    """One of the words behind `zoo`. add: its options. run: does it, and gives the exit status; raises AxforgeError."""

    help: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Settings, RunTasks], int]


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="parts of the name")
    parser.add_argument("--task", default="", help="classification, detection, pose, instance-segmentation, segmentation, …")
    parser.add_argument("--license", default="", metavar="TEXT", help="a part of the licence; none: not published")
    parser.add_argument("--max-parameters", type=_millions, default=0.0, metavar="MILLIONS", help="at most so many weights")
    parser.add_argument("--ready", action="store_true", help="only networks whose ONNX has an address")
    parser.add_argument("--all", action="store_true", help="those that cannot be compiled too, with the reason")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def _list(options: argparse.Namespace, settings: Settings, run_tasks: RunTasks) -> int:
    search = published.NetworkSearch(options.words, options.task, options.license, options.max_parameters, options.all, options.ready)
    networks = search.found()
    if options.json:
        print(published.as_json(networks))
        return 0
    rows = [published.row(network, settings) for network in networks]
    display.table(f"{len(networks)} published networks", published.HEAD, rows)
    for network in networks if options.all else ():
        if not network.family:
            print(f"{network.name}: {network.reason}")
    if not options.all:
        print("--all lists those that cannot be compiled too, with the reason. Accuracy, loss and frames/s are the vendor's.")
    return 0


def _show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NETWORK")
    parser.add_argument("--model-json", action="store_true", help="the model.json that is made of it")


def _show(options: argparse.Namespace, settings: Settings, run_tasks: RunTasks) -> int:
    network = published.find(options.name)
    print(table.text(network).decode() if options.model_json else "\n".join(published.lines(network, settings)))
    return 0


def _fetch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NETWORK")


def _fetch(options: argparse.Namespace, settings: Settings, run_tasks: RunTasks) -> int:
    status = run_tasks([published.fetch_task(name) for name in options.names])
    for name in options.names:
        print("\n".join(published.fetched_lines(name, settings)))
    return status


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="all without one")


def _check(options: argparse.Namespace, settings: Settings, run_tasks: RunTasks) -> int:
    chosen = [published.find(name) for name in options.names] or published.NetworkSearch().found()
    checked = [published.problems(network, settings) for network in chosen]
    wrong = [problem for problems, _ in checked for problem in problems]
    files = sum(count for _, count in checked)
    found_wrong = f"{len(wrong) or 'no'} problem{'s' * (len(wrong) != 1)}"
    print("\n".join([*wrong, f"{len(chosen)} descriptors and {files} files checked: {found_wrong}."]))
    return 1 if wrong else 0


def _millions(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of millions above 0")
    return number


ACTIONS = {
    "list": ZooAction("Show published networks. What is not asked for does not matter.", _list_options, _list),
    "show": ZooAction("Show all that is known of a published network.", _show_options, _show),
    "fetch": ZooAction(
        "Download networks, going on where an earlier download ended, and compare them with the checksum of the table.",
        _fetch_options,
        _fetch,
    ),
    "check": ZooAction(
        "Check that networks make sound descriptors, and that files which are here have the checksum of the table.", _check_options, _check
    ),
}
