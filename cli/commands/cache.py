"""`axforge cache …`: the cache's own commands, and what a build would do."""

import argparse
from collections.abc import Sequence


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    from axforge.cli.tasks_runner import UserProject
    from axforge.tasks.housekeeping import reported

    project = UserProject(argparse.Namespace())
    project.settings()
    return reported(words, prog=prog)
