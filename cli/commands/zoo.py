"""`axforge zoo`"""

from collections.abc import Sequence

from axforge.cli.command import Parser, add_roots

EXAMPLES = ("axforge zoo", "axforge zoo --data-root /data")


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Show the models that come with axforge: task, licence of the weights, and what each needs.", EXAMPLES)
    add_roots(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
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
    return 0
