"""Command-line parsers that answer a mistake with one sentence, for every program of the project. Light to import."""

import argparse
from collections.abc import Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that shows examples after the options, and answers a mistake with one sentence and status 2.

    Its sub-parsers are of the same type. epilog: text after the options, as it is, when there are no examples.
    """

    def __init__(
        self,
        prog: str | None = None,
        description: str | None = None,
        examples: Sequence[str] = (),
        *,
        epilog: str | None = None,
        parents: Sequence[argparse.ArgumentParser] = (),
        add_help: bool = True,
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog="\n".join(["examples:", *(f"  {line}" for line in examples)]) if examples else epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=list(parents),
            add_help=add_help,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print a usage mistake as a sentence and end with status 2."""
        help_line = f"\n  `{self.prog} --help` shows how it is used." if self.add_help else ""
        self.exit(2, f"{self.prog}: {message}{help_line}\n")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
