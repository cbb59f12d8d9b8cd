"""`axforge list`"""

from collections.abc import Sequence

from axforge.cli.command import add_roots
from axforge.usage import Parser

EXAMPLES = ("axforge list", "axforge list --json", "axforge list --all      with every task and stage, as doit knows them")


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Show the models of the project and those that come with axforge, and which are compiled.", EXAMPLES)
    found.add_argument("--all", action="store_true", help="every task: models and their stages")
    found.add_argument("--json", action="store_true", help="as JSON, for scripts")
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.tasks_runner import UserProject  # --help needs no doit
    from axforge.tasks import listing

    project = UserProject(options)
    if options.all:
        return project.list_tasks()
    models = listing.listed(project.settings())
    if options.json:
        print(listing.as_json(models))
    else:
        listing.show(models)
    return 0
