"""`python -m axforge.axruntime.propose my.onnx [-o FOLDER]`: propose a model.json, write it, and say how sure it is."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="propose", description="Propose a model.json for an ONNX model by looking at its graph.")
    parser.add_argument("onnx", type=Path, metavar="MODEL.onnx")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="write FOLDER/NAME/model.json (here)")
    parser.add_argument("--name", default="", help="of the model (made of the file's name)")
    parser.add_argument("--data-root", type=Path, default=None, metavar="FOLDER", help="paths in model.json are relative to it")
    parser.add_argument("--labels", type=Path, action="append", default=[], metavar="FOLDER", help="look for label files there first")
    parser.add_argument("--try", action="store_true", dest="try_it", help="run it on photos of known contents, to find how it is fed")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--print", action="store_true", help="print the model.json and write nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    from axforge.axruntime.propose import report, writing
    from axforge.axruntime.propose.propose import propose

    root = arguments.data_root or (Path(os.environ["AXFORGE_DATA_ROOT"]) if os.environ.get("AXFORGE_DATA_ROOT") else None)
    try:
        proposal = propose(arguments.onnx, [*arguments.labels, shipped_labels()], root, arguments.name)
        if arguments.try_it:
            from axforge.axruntime.propose.trial import tried

            proposal = tried(proposal)
        if arguments.print:
            print(writing.document(proposal.descriptor).decode(), end="")
            return 0
        path = writing.write(proposal, arguments.output, replace=arguments.force)
    except AxforgeError as e:
        print(f"propose: {report.printable(str(e))}", file=sys.stderr)
        return 1
    print(report.table(proposal, shutil.get_terminal_size((120, 24)).columns))
    print("\nPlease check:", *(f"- {line}" for line in report.checks(proposal.choices)), sep="\n")
    print(f"\nWritten: {path}\nNext: {next_command(path)}")
    return 0


def shipped_labels() -> Path:
    """The folder of the label files that come along."""
    return Path(str(resources.files("axforge"))) / "ax_models" / "labels"


def next_command(path: Path) -> str:
    """What to type after `path`, a model.json, was written and checked."""
    return f"AXFORGE_MODELS={path.parent.parent} ./inference.py {path.parent.name} PICTURE.jpg"


if __name__ == "__main__":
    sys.exit(main())
