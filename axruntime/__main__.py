"""`axmodel run|bundle|dump|trace|report|diff|verify|profile`: runs a compiled model, hands it over, looks into it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.packages import missing_named
from axforge.usage import Parser, positive

if TYPE_CHECKING:
    from axforge.signatures import PublicKey


def _parser(prog: str) -> Parser:
    parser = Parser(prog, description="Run a compiled model, make one file of it, or look into it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a compiled folder, a bundle or an .axmodel on pictures and videos")
    run.add_argument("model", type=Path, help="a compiled folder, a zip that `axmodel bundle` made, or an .axmodel")
    run.add_argument("source", help="a picture, a folder or a video, sample:NAME, fakevideo:WIDTHxHEIGHT, usb:N, or an address")
    run.add_argument("--frames", type=positive, default=None, metavar="N", help="stop after so many frames")
    run.add_argument("--save-output", type=Path, default=None, metavar="PATH", help="annotated picture or video, a .json, or a folder")
    run.add_argument("--json", action="store_true", help="print a line of JSON for each frame")
    run.add_argument("--strict", action="store_true", help="stop at a picture that cannot be used, instead of skipping it")
    run.add_argument("--engine", default="aipu-host", help="aipu-host, sim or reference")
    run.add_argument("--threads", type=int, default=0, metavar="N", help="threads for one picture; 0 takes every CPU")
    run.set_defaults(act=_run)
    bundle = commands.add_parser("bundle", help="make one zip of a compiled folder; the same folder gives the same bytes")
    bundle.add_argument("folder", type=Path)
    bundle.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.zip")
    bundle.set_defaults(act=_bundle)
    dump = commands.add_parser("dump", help="what the file holds: inputs, outputs, memory, layers with their cycles")
    dump.add_argument("file", type=Path)
    dump.add_argument("--instructions", action="store_true", help="list the instructions of every core too")
    dump.add_argument("--core", type=int, default=None, help="only this core's instructions")
    dump.add_argument("--json", action="store_true", help="for programs: everything but the instructions, as JSON")
    dump.set_defaults(act=_dump)
    trace = commands.add_parser("trace", help="when each unit of each core works on which layer, for ui.perfetto.dev")
    trace.add_argument("file", type=Path)
    trace.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    trace.set_defaults(act=_trace)
    report = commands.add_parser("report", help="an HTML page: where layers run, when, in which memory, and what limits them")
    report.add_argument("file", type=Path)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html")
    report.set_defaults(act=_report)
    diff = commands.add_parser("diff", help="what differs between two files (status 1 if anything does)")
    diff.add_argument("file", type=Path)
    diff.add_argument("other", type=Path)
    diff.set_defaults(act=_diff)
    verify = commands.add_parser("verify", help="check every byte, index and rule (status 1 if one is broken)")
    verify.add_argument("file", type=Path, nargs="+", help="an .axmodel; or a compiled folder or a bundle, whose files must agree, too")
    verify.add_argument(
        "--key", default="", metavar="KEY", help="and that this public key (a file or ed25519:…) attested where it comes from"
    )
    verify.set_defaults(act=_verify)
    commands.add_parser("profile", help="run it on this CPU: time, GMAC/s and share of peak of every step", add_help=False)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from axforge.axruntime import run_command

    words = {name: value for name, value in vars(arguments).items() if name in run_command.RunOptions.__struct_fields__}
    return run_command.run(run_command.RunOptions(**words), sys.stdout)


def _bundle(arguments: argparse.Namespace) -> int:
    from axforge.axruntime.deployed.bundle import write_bundle

    path = write_bundle(arguments.folder, arguments.output)
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def _dump(arguments: argparse.Namespace) -> int:
    from axforge.axcompiler.disassembly import disassembly
    from axforge.axruntime import explain
    from axforge.axruntime.axmodel import AxModel

    model = AxModel.open(arguments.file)
    print(explain.as_json(model) if arguments.json else explain.dump(model))
    if arguments.instructions and not arguments.json:
        print(disassembly(model.program, arguments.core))
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from axforge.axruntime.axmodel import AxModel
    from axforge.axruntime.engines.sim.clock.trace import trace

    model = AxModel.open(arguments.file)
    _write("trace", arguments.output, trace(model.program, model.target), "open it in https://ui.perfetto.dev")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from axforge.axruntime.axmodel import AxModel
    from axforge.axruntime.report.facts import facts_of
    from axforge.axruntime.report.page import html

    _write("report", arguments.output, html(facts_of(AxModel.open(arguments.file))).encode(), "open it in a browser")
    return 0


def _write(what: str, path: Path, data: bytes, then: str) -> None:
    """Write a file whole or not at all, and say what to do with it. Raises AxforgeError."""
    from axforge.axcompiler import container

    try:
        container.write_atomic(path, data)
    except OSError as e:
        fix = "Name a file in a folder that can be written."
        raise AxforgeError(f"the {what} cannot be written: {e.strerror}", where=str(path), fix=fix) from e
    print(f"{path}: {path.stat().st_size:,} bytes; {then}")


def _diff(arguments: argparse.Namespace) -> int:
    from axforge.axruntime import explain
    from axforge.axruntime.axmodel import AxModel

    lines = explain.differences(AxModel.open(arguments.file), AxModel.open(arguments.other))
    print("\n".join(lines) or "no difference")
    return 1 if lines else 0


def _verify(arguments: argparse.Namespace) -> int:
    from axforge.axruntime import explain
    from axforge.axruntime.axmodel import AxModel
    from axforge.axruntime.deployed.opening import open_deployed

    key = _public_key(arguments.key)
    for path in arguments.file:
        whole = path.is_dir() or path.suffix == ".zip"
        print(explain.verdict(open_deployed(path).model.checked() if whole else AxModel.open(path)))
        if key is not None:
            from axforge.axruntime.deployed import attestation

            print(attestation.check(path, key).line())
    return 0


def _public_key(given: str) -> "PublicKey | None":
    """The key that --key names; None for ''."""
    if not given:
        return None
    from axforge.signatures import SignatureProblem, read_public_key

    try:
        return read_public_key(given)
    except SignatureProblem as problem:
        raise AxforgeError(str(problem), fix="`doit cache keygen FILE` prints one, and writes it to FILE.pub.") from problem


def main(argv: Sequence[str] | None = None, prog: str = "axmodel") -> int:
    """Run a command; returns the exit status. prog: what the user typed to get here."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["profile"]:
        from axforge.axruntime.engines.host import profile

        return profile.main(words[1:])
    arguments = _parser(prog).parse_args(words)
    act: Callable[[argparse.Namespace], int] = arguments.act
    try:
        with missing_named():
            return act(arguments)
    except AxforgeError as e:
        print(f"{prog}: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `axmodel dump FILE | head`
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
