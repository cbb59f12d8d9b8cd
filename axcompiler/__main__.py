"""`python -m axforge.axcompiler MODEL.onnx -o model.axmodel --calibration samples.npz`: compile without doit."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import onnx

from axforge.axcompiler import api, inspection, support
from axforge.axcompiler.calibrate.arrays import ArraySamples
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.onnx_graph.qdq import is_quantized
from axforge.axcompiler.quantize import schemes
from axforge.axcompiler.quantize.algorithms.clipping import EFFORTS
from axforge.axcompiler.stages import CalibrateConfig, CheckConfig, PackConfig, QuantizeConfig, TileConfig
from axforge.axcompiler.support import Share
from axforge.usage import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after a mistake of the user's, which is printed."""
    args = _parser().parse_args(argv)
    try:
        _compile(args)
    except AxforgeError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        if e.filename is None:
            raise
        print(f"error: {e.filename}: {e.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m axforge.axcompiler", description="Compile an ONNX model to an int8 .axmodel.")
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("-o", "--output", type=Path, help=".axmodel to write (default: beside the model, with its name)")
    parser.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="pre-processed inputs: .npz (an array an input), .npy (one input), or a folder of them; may be repeated",
    )
    parser.add_argument("--input-shape", action="append", default=[], metavar="NAME=N,C,H,W", help="pin a dynamic shape; may be repeated")
    parser.add_argument("--cores", type=int, default=1, choices=range(1, 5), help="AIPU cores (default: 1)")
    parser.add_argument("--target", default="metis", help="AIPU description: a name, or the path of a YAML file (default: metis)")
    parser.add_argument("--scheme", default="effect", choices=schemes.names(), help="how ranges are chosen (default: effect)")
    parser.add_argument("--effort", default="normal", choices=sorted(EFFORTS), help="how much 'effect' tries (default: normal)")
    parser.add_argument("--percentile", type=float, default=99.999, help="share of values that scheme 'percentile' keeps")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="NODE", help="nodes to leave in float32, on the CPU")
    parser.add_argument("--end-node", nargs="+", default=[], metavar="NAME", help="tensors or nodes after which the host takes over")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the artefacts of all stages here")
    parser.add_argument("--print-passes", action=_PrintPasses, help="list the passes of all stages, and exit")
    parser.add_argument(
        "--dump-after", metavar="PASS", help="write the model as text after this pass: into the folder of --keep, else to stderr"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


class _PrintPasses(argparse.Action):
    """Prints the list of passes and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        print(inspection.listing(), end="")
        parser.exit()


def _compile(args: argparse.Namespace) -> None:
    dump = inspection.Dump(args.dump_after) if args.dump_after else None
    output = args.output or args.model.with_suffix(".axmodel")
    options = api.Options(
        check=CheckConfig(input_shapes=dict(_shape(text) for text in args.input_shape), end_nodes=tuple(args.end_node)),
        calibrate=CalibrateConfig(),
        quantize=QuantizeConfig(args.scheme, args.percentile, tuple(args.exclude), effort=args.effort),
        tile=TileConfig(args.cores, args.target),
        pack=PackConfig(args.model.stem),
    )

    def samples(checked: onnx.ModelProto) -> api.Samples:
        return _samples(args.calibration, checked)

    with tempfile.TemporaryDirectory(prefix="axforge-") as scratch:
        progress = None if args.quiet else _show
        compiled = api.compile(args.model, samples, options, workdir=scratch, progress=progress, observe=dump)
        if dump and args.keep:
            (Path(scratch) / f"{args.dump_after}.txt").write_text(dump.text, encoding="utf-8")
        elif dump:
            print(dump.text, end="", file=sys.stderr)
        if args.keep:
            shutil.copytree(scratch, args.keep, dirs_exist_ok=True)
        compiled.save(output)
        share = Share.of(json.loads((Path(scratch) / support.FILE).read_bytes()))
    if not share.enough:
        print(f"warning: {share.warning()}", file=sys.stderr)
    if not args.quiet:
        size = output.stat().st_size
        print(f"wrote {output} ({size / 1e6:.1f} MB)" if size >= 100_000 else f"wrote {output} ({size / 1e3:.1f} kB)")


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not equals or not shape or min(shape) < 1:
        raise AxforgeError(f"'{text}' is not a shape", where="--input-shape", fix="Write NAME=N,C,H,W, for example images=1,3,640,640.")
    return name, shape


def _samples(paths: Sequence[Path], checked: onnx.ModelProto) -> api.Samples:
    if is_quantized(checked.graph.node):
        return ()
    if not paths:
        raise AxforgeError(
            "ranges of activations cannot be measured without data",
            where="--calibration",
            fix="Give --calibration a .npz with pre-processed inputs, 100 samples or so.",
        )
    shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in checked.graph.input}
    return ArraySamples(paths, shapes)


def _show(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{stage:<10} {done}/{total} ", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
