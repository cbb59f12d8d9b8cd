"""`python -m axforge.cache`: reports and housekeeping, without doit."""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from axforge.cache.config import open_store, parse_size
from axforge.cache.errors import CacheError
from axforge.cache.record import printable
from axforge.usage import Parser

if TYPE_CHECKING:
    from axforge.cache.store import Store

_AGE = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def parse_age(text: str) -> float:
    """Seconds in "30d", "12 h", "2w", "90min". CacheError when it is not an age."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)?\s*", text)
    if not match:
        raise CacheError(f"{text!r} is not an age.", fix="Write it like 30d, 12h, 90min; without a unit it means days.")
    return float(match[1]) * _AGE[match[2] or "d"]


def parser(prog: str, also: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of the command line. also: further commands of the program `prog`, with what they do."""
    top = Parser(
        prog=prog,
        description="The cache of build results: what is in it, why, and how to clean it.",
        epilog="\n".join(["also:", *(f"  {name}\n      {what}" for name, what in also.items())]) if also else None,
    )
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="machine-readable output")
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=summary, description=summary)

    look = add("inspect", "show totals and a row for each model and stage; or look into one model, hash or file")
    look.add_argument("what", nargs="?", help="a model, a hash (6 digits or more), or a file")
    clean = add("clean", "remove results; never what a running build uses")
    clean.add_argument("--older-than", metavar="AGE", help="not used for so long: 30d, 12h")
    clean.add_argument("--keep-size", metavar="SIZE", help="keep so much, least recently used go first: 5GB")
    clean.add_argument("--model", help="only this model; alone: all its results")
    clean.add_argument("--unreachable", action="store_true", help="contents without a record and records without their contents")
    clean.add_argument("--all", action="store_true", help="everything")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add("verify", "hash everything again, set aside what is damaged, say what will be built again (exit status 1 if there is any)")
    explain = add("explain", "say what differs: between two records, or between one and the nearest in the cache")
    explain.add_argument("one", help="a model or the key of a record (6 digits or more)")
    explain.add_argument("other", nargs="?", help="the key of another record")
    compare = add("diff", "compare two records: what decided them, and which of their files differ (exit status 1 if anything does)")
    compare.add_argument("one", help="the key of a record (6 digits or more)")
    compare.add_argument("other", help="the key of another one")
    out = add("export", "write models with all that made them into one file, for a machine without network")
    out.add_argument("names", nargs="+", metavar="MODEL", help="a model, or the key of a record (6 digits or more)")
    out.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the bundle to write")
    take = add("import", "keep what is in a bundle; all of it is checked first")
    take.add_argument("file", type=Path, help="a bundle that `export` wrote")
    take.add_argument("--dry-run", action="store_true", help="only check it, and say what would be kept")
    keys = add("keygen", "make a pair of keys: FILE, which signs what a CI makes, and FILE.pub for trusted_keys")
    keys.add_argument("file", type=Path, metavar="FILE", help="a new file; keep it secret")
    count = add("stats", "show how often results were restored")
    count.add_argument("--reset", action="store_true", help="start counting at zero")
    return top


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str = "python -m axforge.cache",
    start_dir: Path | None = None,
    typed_in: Path | None = None,
    also: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a command. 0: done; 1: it could not be done, or `verify` found damage; 2: wrong usage (SystemExit, from argparse).

    typed_in: where paths that were typed begin. also: commands that the caller runs itself, for --help.
    """
    options = parser(prog, also).parse_args(argv)
    for name in {"output", "file"} & set(vars(options)):
        setattr(options, name, (typed_in or Path()) / getattr(options, name))
    try:
        store = open_store(start_dir or Path.cwd())
        return int(_COMMANDS[options.command](store, options))
    except CacheError as error:
        print(f"cache: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing is left to say
        return 1


def _print(options: argparse.Namespace, data: object, lines: list[str]) -> None:
    print(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) if options.json else "\n".join(map(printable, lines)), flush=True)


def _inspect(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import inspect, text

    if options.what is None:
        overview = inspect.overview(store)
        _print(options, overview, text.overview_lines(overview))
    else:
        found = inspect.look(store, options.what)
        _print(options, found, text.look_lines(found))
    return 0


def _clean(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import gc, text

    wanted = gc.Wanted(
        older_than=parse_age(options.older_than) if options.older_than else None,
        keep_size=parse_size(options.keep_size) if options.keep_size else None,
        model=options.model,
        unreachable=options.unreachable,
        all=options.all,
    )
    if wanted.is_empty():
        raise CacheError("Nothing to clean was named.", fix="Use --older-than, --keep-size, --model, --unreachable or --all.")
    if wanted.model is not None:
        _known_model(store, wanted.model)
    report = gc.clean(store, wanted, dry_run=options.dry_run)
    assert report is not None
    data = report.to_json()
    _print(options, data, text.clean_lines(data))
    return 0


def _known_model(store: "Store", model: str) -> None:
    from axforge.cache.scan import entries

    names = sorted({entry.record.label for entry in entries(store)} - {""})
    if model not in names:
        raise CacheError(
            f"There are no results of a model {model!r} in the cache.",
            fix=f"There are results of: {', '.join(names)}." if names else "Nothing has been kept yet.",
        )


def _verify(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import text
    from axforge.cache.verify import verify

    data = verify(store).to_json()
    _print(options, data, text.verify_lines(data))
    return 0 if data["sound"] else 1


def _explain(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import explain

    found = explain.by_name(store, options.one, options.other)
    _print(options, [item.to_json() for item in found], [line for item in found for line in item.lines()])
    return 0


def _diff(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache.diff import diff

    found = diff(store, options.one, options.other)
    _print(options, found.to_json(), found.lines())
    return 1 if found.changes or found.outputs else 0


def _export(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import text
    from axforge.cache.bundle import export
    from axforge.cache.lineage import lineage

    data = export(store, lineage(store, options.names), options.output)
    _print(options, data, text.export_lines(data))
    return 0


def _import(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import text
    from axforge.cache.bundle import import_bundle

    data = import_bundle(store, options.file, dry_run=options.dry_run)
    _print(options, data, text.import_lines(data))
    return 0


def _keygen(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import trust

    public = trust.generate(options.file)
    lines = [f"{options.file}: signs, as signing_key or AXFORGE_CACHE_SIGNING_KEY", f'trusted_keys = ["{public}"]']
    _print(options, {"file": str(options.file), "public": str(public), "id": public.id}, lines)
    return 0


def _stats(store: "Store", options: argparse.Namespace) -> int:
    from axforge.cache import stats

    if options.reset:
        stats.reset(store.layout.stats)
    counted = stats.read(store.layout.stats)
    data = {**asdict(counted), "hit_rate": round(counted.hit_rate, 4)}
    _print(options, data, [f"{name.replace('_', ' ')}: {value}" for name, value in data.items()])
    return 0


_COMMANDS = {
    "inspect": _inspect,
    "clean": _clean,
    "verify": _verify,
    "explain": _explain,
    "diff": _diff,
    "export": _export,
    "import": _import,
    "keygen": _keygen,
    "stats": _stats,
}
