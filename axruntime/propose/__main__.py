"""`python -m axforge.axruntime.propose my.onnx [-o FOLDER]`: propose a model.json, write it, and say how sure it is."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.usage import Parser

if TYPE_CHECKING:
    from axforge.axruntime.propose.proposal import Proposal


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said of a proposal."""
    parser.add_argument("onnx", type=Path, metavar="MODEL.onnx")
    add_destination(parser)
    parser.add_argument("--try", action="store_true", dest="try_it", help="run it on photos of known contents, to find how it is fed")


def add_destination(parser: argparse.ArgumentParser) -> None:
    """Where a proposal goes, and what it may refer to."""
    parser.add_argument("-o", "--output", type=Path, default=None, metavar="FOLDER", help="write FOLDER/NAME/model.json")
    parser.add_argument("--name", default="", help="of the model (made of the file's name)")
    parser.add_argument("--data-root", type=Path, default=None, metavar="FOLDER", help="paths in model.json are relative to it")
    parser.add_argument("--labels", type=Path, action="append", default=[], metavar="FOLDER", help="look for label files there first")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--print", action="store_true", help="print the model.json and write nothing")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(prog="propose", description="Propose a model.json for an ONNX model by looking at its graph.")
    add_options(parser)
    arguments = parser.parse_args(argv)
    if arguments.data_root is None and os.environ.get("AXFORGE_DATA_ROOT"):
        arguments.data_root = Path(os.environ["AXFORGE_DATA_ROOT"])
    arguments.output = arguments.output or Path()
    return run(arguments, "propose", next_command, Path.cwd())


def proposed(arguments: argparse.Namespace) -> "Proposal":
    """The proposal for the ONNX that `arguments` name, by its graph and, where that is wanted, by running it. Raises AxforgeError."""
    from axforge.axruntime.propose.propose import propose

    proposal = propose(arguments.onnx, [*arguments.labels, shipped_labels()], arguments.data_root, arguments.name)
    if arguments.try_it:
        from axforge.axruntime.propose.trial import tried

        proposal = tried(proposal)
    return proposal


def run(
    arguments: argparse.Namespace,
    prog: str,
    next_command: Callable[[Path], str],
    typed_in: Path,
    make: "Callable[[argparse.Namespace], Proposal]" = proposed,
) -> int:
    """Propose, write and report as `arguments` say; returns the exit status. next_command: what to type after that model.json is written.

    typed_in: paths are shown relative to it. make: gives the proposal.
    """
    from axforge.axruntime.propose import report, writing

    try:
        proposal = make(arguments)
        if arguments.print:
            print(writing.document(proposal.descriptor).decode(), end="")
            return 0
        path = writing.write(proposal, arguments.output, replace=arguments.force)
    except AxforgeError as e:
        print(f"{prog}: {report.printable(str(e))}", file=sys.stderr)
        return 1
    shown = path.relative_to(typed_in) if path.is_relative_to(typed_in) else path
    print(report.table(proposal, shutil.get_terminal_size((120, 24)).columns))
    print("\nPlease check:", *(f"- {line}" for line in report.checks(proposal.choices)), sep="\n")
    print(f"\nWritten: {shown}\nNext: {next_command(path)}")
    return 0


def shipped_labels() -> Path:
    """The folder of the label files that come along."""
    return Path(str(resources.files("axforge"))) / "ax_models" / "labels"


def next_command(path: Path) -> str:
    """What to type after `path`, a model.json, was written and checked."""
    return f"AXFORGE_MODELS={path.parent.parent} ./inference.py {path.parent.name} PICTURE.jpg"


if __name__ == "__main__":
    sys.exit(main())
