"""`axforge run FOLDER SOURCE`: the command of the runtime, which needs neither doit nor a project."""

from collections.abc import Sequence


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    from axforge.axruntime import __main__ as axmodel

    return axmodel.main(["run", *words], prog="axforge")
