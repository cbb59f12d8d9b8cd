"""`doit cache …`: the cache's own commands, with what only the tasks know: what a build would do, and which results a model has now."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from doit.exceptions import TaskFailed

from axforge.tasks.project import zoo
from axforge.tasks.project.doit_state import TaskDict
from axforge.tasks.project.failures import say
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT, Settings
from axforge.usage import Parser

#: Commands that only the tasks have, for the help of the cache's own.
ALSO = {
    "attest MODEL": "write where a compiled model comes from beside it, as an in-toto statement, signed if there is a key",
    "verify --rebuild MODEL…": "run some stages again, and compare what they give with their records",
}


def task_cache() -> TaskDict:
    """cache inspect|explain|diff|clean|verify|export|import|attest|keygen|stats [--json]; doit cache clean --help"""
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
        if argv[0] == "attest":
            return _attest(list(argv[1:]), prog)
        if argv[0] == "verify" and "--rebuild" in argv:
            return _rebuild([word for word in argv[1:] if word != "--rebuild"], prog)
        words = _export(list(argv[1:]), prog) if argv[0] == "export" else argv
        return cli.main(words, prog=prog, start_dir=here.project, typed_in=here.typed_in, also=ALSO)
    except SystemExit as ended:  # argparse: --help, or a wrong option that it has reported
        return int(ended.code or 0)


def _explains_a_build(rest: list[str]) -> bool:
    """Whether `explain` is about a model of the zoo (else it compares records, which the cache does itself)."""
    plain = [word for word in rest if not word.startswith("-")]
    here = PROJECT.settings()
    if len(plain) != 1 or (all(c in "0123456789abcdef" for c in plain[0]) and not zoo.known(plain[0], here)):
        return False
    zoo.find(plain[0], here)  # raises, with the nearest names
    return True


def _export(rest: list[str], prog: str) -> list[str]:
    """The words of `export`, with the keys of all stages in place of each model of the zoo. AxforgeError if one is not compiled."""

    from axforge.tasks.stages.explaining import cached_keys  # only some commands need it

    description = "Write models with all that made them into one file, for a machine without network."
    parser = Parser(prog=f"{prog} export", description=description)
    parser.add_argument("names", nargs="+", metavar="MODEL", help="a model as it would be built now, or the key of a record")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the bundle to write")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--aipu-cores", type=int, default=0, help="for so many cores")
    options = parser.parse_args(rest)
    here = PROJECT.settings()
    keys = [
        key for name in options.names for key in (cached_keys(_plan(name, options.aipu_cores, here)) if zoo.known(name, here) else [name])
    ]
    return ["export", *keys, "-o", options.output, *(["--json"] if options.json else [])]


def _attest(rest: list[str], prog: str) -> int:
    """`attest MODEL`: the statement of a compiled model."""

    from axforge.cache.config import load
    from axforge.tasks import attesting  # only this command needs it

    parser = Parser(prog=f"{prog} attest", description=f"{ALSO['attest MODEL'].capitalize()}.")
    parser.add_argument("model", help="a model that is compiled")
    parser.add_argument("--key", default="", metavar="FILE", help="the private key that signs (default: signing_key of the cache)")
    parser.add_argument("--builder", default="", metavar="URI", help="who vouches for the build (default: urn:axforge:host:NAME)")
    parser.add_argument("--aipu-cores", type=int, default=0, help="for so many cores")
    options = parser.parse_args(rest)
    here = PROJECT.settings()
    key = attesting.key_for(str(here.typed(options.key)) if options.key else load(here.project).signing_key)
    print(attesting.summary(attesting.attest(_plan(options.model, options.aipu_cores, here), key, options.builder), key))
    return 0


def _rebuild(rest: list[str], prog: str) -> int:
    """`verify --rebuild MODEL…`: 1 if a stage gives other bytes than its record says."""
    import random

    from axforge.tasks.rebuilding import rebuild  # only this command needs it

    parser = Parser(prog=f"{prog} verify --rebuild", description=f"{ALSO['verify --rebuild MODEL…'].capitalize()}.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="models that are compiled")
    parser.add_argument("--sample", type=int, default=3, metavar="N", help="how many of all their stages (default: 3)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which ones (default: others each time)")
    parser.add_argument("--aipu-cores", type=int, default=0, help="for so many cores")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(rest)
    found = rebuild([_plan(name, options.aipu_cores, PROJECT.settings()) for name in options.models], options.sample, options.seed)
    if options.json:
        print(json.dumps({"seed": options.seed, "stages": [item.to_json() for item in found]}, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*(line for item in found for line in item.lines()), f"{len(found)} stages run again, --seed {options.seed}"]))
    return 1 if any(item.differs for item in found) else 0


def _plan(name: str, cores: int, here: Settings) -> BuildPlan:
    typed = PROJECT.command_line.common
    return BuildPlan(zoo.find(name, here), replace(typed, cores=cores or typed.cores), here)


def _explain(rest: list[str], prog: str) -> int:

    from axforge.tasks.stages.explaining import explain  # only `explain` needs it

    parser = Parser(prog=f"{prog} explain", description="What a build of a model would do, stage by stage, and why.")
    parser.add_argument("model")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--aipu-cores", type=int, default=0, help="for so many cores")
    options = parser.parse_args(rest)
    verdicts = explain(_plan(options.model, options.aipu_cores, PROJECT.settings()))
    if options.json:
        print(json.dumps([verdict.to_json() for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            print("\n".join(verdict.lines()))
    return 0
