"""`doit cache inspect|clean|verify|explain|diff|stats`: the cache's own commands, with what only the tasks know: what a build would do."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from doit.exceptions import TaskFailed

from axforge.tasks.project import zoo
from axforge.tasks.project.doit_state import TaskDict
from axforge.tasks.project.failures import say
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT


def task_cache() -> TaskDict:
    """cache inspect|explain|diff|clean|verify|stats [--json]; doit cache clean --help"""
    helping = {"name": "helping", "long": "help", "short": "h", "type": bool, "default": False, "help": "how to use this"}
    return {
        "actions": [(Housekeeping(),)],
        "pos_arg": "argv",
        "params": [helping],
        "verbosity": 2,
        "uptodate": [False],
        "io": {"capture": False},
    }


class Housekeeping:
    """The action; fails with one sentence, or with what the cache's command has printed."""

    def __call__(self, argv: Sequence[str], helping: bool) -> bool | TaskFailed:
        """Run one command of the cache."""
        try:
            status = run([*argv, *(["--help"] if helping else [])])
        except Exception as error:
            if sentence := say(error):
                return TaskFailed(sentence)
            raise
        return True if status == 0 else TaskFailed("", report=False)


def reported(argv: Sequence[str], prog: str) -> int:
    """A command of the cache for another front end: a user's mistake is said on stderr. Returns the exit status."""
    try:
        return run(argv, prog)
    except Exception as error:
        if not (sentence := say(error)):
            raise
        print(f"{prog}: {sentence}", file=sys.stderr)
        return 1


def run(argv: Sequence[str], prog: str = "doit cache") -> int:
    """A command of the cache, `inspect` if none is named; returns its exit status. Raises AxforgeError and CacheError."""
    argv = list(argv) or ["inspect"]
    from axforge.cache import cli  # a build with nothing to do opens no cache

    here = PROJECT.settings()
    try:
        if argv[0] == "explain" and _explains_a_build(list(argv[1:])):
            return _explain(list(argv[1:]), prog)
        return cli.main(argv, prog=prog, start_dir=here.project)
    except SystemExit as ended:  # argparse: --help, or a wrong option that it has reported
        return int(ended.code or 0)


def _explains_a_build(rest: list[str]) -> bool:
    """Whether `explain` is about a model of the zoo (else it compares records, which the cache does itself)."""
    plain = [word for word in rest if not word.startswith("-")]
    here = PROJECT.settings()
    known = zoo.names(here)
    if len(plain) == 1 and plain[0] not in known and not all(c in "0123456789abcdef" for c in plain[0]):
        zoo.find(plain[0], here)  # raises, with the nearest names
    return len(plain) == 1 and plain[0] in known


def _explain(rest: list[str], prog: str) -> int:
    import argparse  # only `explain` of this command needs it

    from axforge.tasks.stages.explaining import explain  # only `explain` needs it

    parser = argparse.ArgumentParser(prog=f"{prog} explain", description="What a build of a model would do, stage by stage, and why.")
    parser.add_argument("model")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--aipu-cores", type=int, default=0, help="for so many cores")
    options = parser.parse_args(rest)
    here, typed = PROJECT.settings(), PROJECT.command_line.common
    plan = BuildPlan(zoo.find(options.model, here), replace(typed, cores=options.aipu_cores or typed.cores), here)
    verdicts = explain(plan)
    if options.json:
        print(json.dumps([verdict.to_json() for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            print("\n".join(verdict.lines()))
    return 0
