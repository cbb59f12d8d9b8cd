"""`axforge init my.onnx`: proposes a model.json and writes it into the project."""

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axruntime.propose import __main__ as propose
from axforge.usage import Parser

if TYPE_CHECKING:
    from axforge.axruntime.propose.proposal import Proposal

EXAMPLES = (
    "axforge init my.onnx",
    "axforge init my.onnx --try                 finds how it is fed, by running it on known photos",
    "axforge init my.onnx --name detector --print",
)


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Propose a model.json for an ONNX model by looking at its graph, and write it.", EXAMPLES)
    propose.add_options(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    options.onnx = options.onnx.absolute()
    return written(options, prog, propose.proposed)


def written(options: argparse.Namespace, prog: str, make: "Callable[[argparse.Namespace], Proposal]") -> int:
    """Write what `make` proposes where the project finds it, and say what was chosen; returns the exit status."""
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit

    typed_in = Path.cwd()
    own = options.output.absolute() if options.output is not None else None
    here = UserProject(argparse.Namespace(data_root=str(options.data_root or ""))).settings()
    options.output = own or (here.own_models[0] if here.own_models else here.project / "models")
    found_later = options.output in (*here.own_models, here.project / "models")
    options.data_root = here.data_root or here.project
    prefix = "" if found_later else f"AXFORGE_MODELS={shlex.quote(os.path.relpath(options.output, typed_in))} "
    return propose.run(options, prog, lambda path: f"{prefix}axforge infer {path.parent.name} PICTURE.jpg", typed_in, make)
