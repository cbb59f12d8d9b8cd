"""`axmodel dump|diff|verify|profile FILE`: explains an `.axmodel`; only `profile` runs it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="axmodel", description="Look into an .axmodel file.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    dump = commands.add_parser("dump", help="what the file holds: inputs, outputs, memory, layers with their cycles")
    dump.add_argument("file", type=Path)
    dump.add_argument("--instructions", action="store_true", help="list the instructions of every core too")
    dump.add_argument("--core", type=int, default=None, help="only this core's instructions")
    dump.add_argument("--json", action="store_true", help="for programs: everything but the instructions, as JSON")
    diff = commands.add_parser("diff", help="what differs between two files (status 1 if anything does)")
    diff.add_argument("file", type=Path)
    diff.add_argument("other", type=Path)
    verify = commands.add_parser("verify", help="check every byte, index and rule (status 1 if one is broken)")
    verify.add_argument("file", type=Path, nargs="+")
    commands.add_parser("profile", help="run it on this CPU: time, GMAC/s and share of peak of every step", add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["profile"]:
        from axforge.axruntime.engines.host import profile

        return profile.main(words[1:])
    arguments = _parser().parse_args(words)
    from axforge.axruntime import explain
    from axforge.axruntime.axmodel import AxModel

    try:
        if arguments.command == "dump":
            model = AxModel.open(arguments.file)
            print(explain.as_json(model) if arguments.json else explain.dump(model))
            if arguments.instructions and not arguments.json:
                print(explain.disassembly(model.program, arguments.core))
            return 0
        if arguments.command == "verify":
            for path in arguments.file:
                print(explain.verdict(AxModel.open(path)))
            return 0
        lines = explain.differences(AxModel.open(arguments.file), AxModel.open(arguments.other))
        print("\n".join(lines) or "no difference")
        return 1 if lines else 0
    except AxforgeError as e:
        print(f"axmodel: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `axmodel dump FILE | head`
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
