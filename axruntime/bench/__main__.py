"""`python -m axforge.axruntime.bench FILE`: how fast a compiled model runs here, and how fast onnxruntime runs its ONNX."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from axforge.axcompiler.errors import AxforgeError
from axforge.usage import Parser

T = TypeVar("T", int, float)


def _between(convert: Callable[[str], T], low: T, high: T) -> Callable[[str], T]:
    """A reader of numbers from `low` to `high` for argparse."""

    def number(text: str) -> T:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {low} to {high}")
        return value

    return number


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said of a measurement."""
    parser.add_argument("--onnx", type=Path, default=None, metavar="FILE", help="the ONNX to compare with (found in a build folder)")
    parser.add_argument("--alone", action="store_true", help="do not compare with onnxruntime")
    parser.add_argument("--threads", type=_between(int, 1, 1024), default=0, metavar="N", help="of each engine (as many as there are CPUs)")
    parser.add_argument("--seconds", type=_between(float, 0.01, 86400.0), default=5.0, metavar="S", help="that each engine runs (5)")
    parser.add_argument("--seed", type=_between(int, 0, 2**31), default=0, metavar="N", help="of the random inputs (0)")
    parser.add_argument("--json", action="store_true", help="print the measurement as JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(prog="bench", description="How fast a compiled model runs here, and onnxruntime on its ONNX.")
    parser.add_argument("file", type=Path, metavar="FILE", help="an .axmodel, a bundle (.zip), the folder of a compiled model, or an .onnx")
    add_options(parser)
    return run(parser.parse_args(argv), "bench")


def run(arguments: argparse.Namespace, prog: str) -> int:
    """Measure and report as `arguments` say; returns the exit status."""
    import msgspec

    from axforge.axruntime.bench import report
    from axforge.axruntime.bench.measure import bench, find_model, find_onnx

    try:
        file = find_model(arguments.file)
        onnx = None if arguments.alone else find_model(arguments.onnx) if arguments.onnx else find_onnx(file)
        if not arguments.json:
            print("measuring...", file=sys.stderr)
        found = bench(file, onnx, threads=arguments.threads, seconds=arguments.seconds, seed=arguments.seed)
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() if arguments.json else report.text(found))
    except AxforgeError as e:
        print(f"{prog}: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `bench FILE | head`
        sys.stderr.close()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
