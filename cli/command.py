"""Options that several of the sub-commands take."""

import argparse

from axforge.usage import positive

MODEL_HELP = "name of a model (`axforge list` shows them), or an .onnx file"
SOURCE_HELP = "a picture, folder or video, sample:NAME, fakevideo:WIDTHxHEIGHT, dataset, usb:N, or an address"


def add_roots(parser: argparse.ArgumentParser) -> None:
    """--build-root and --data-root."""
    parser.add_argument("--build-root", default="", metavar="DIR", help="where results go (default: AXFORGE_BUILD_ROOT, else build/)")
    parser.add_argument("--data-root", default="", metavar="DIR", help="folder with models and data sets (default: AXFORGE_DATA_ROOT)")


def add_cores(parser: argparse.ArgumentParser) -> None:
    """--aipu-cores."""
    cores = "AIPU cores to compile for, 1 to 4 (default: what model.json says, else 1)"
    parser.add_argument("--aipu-cores", dest="cores", type=int, choices=range(1, 5), default=0, metavar="N", help=cores)


def add_compilation(parser: argparse.ArgumentParser) -> None:
    """Options of everything that compiles."""
    add_cores(parser)
    parser.add_argument("--num-cal-images", type=positive, default=0, metavar="N", help="images to calibrate with")
    effort = "how long to look for the best int8 ranges (default: normal; fast tries nothing, best takes minutes)"
    parser.add_argument("--effort", default="", choices=("fast", "normal", "best"), help=effort)
    parser.add_argument("--onnx", default="", metavar="PATH", help="take this ONNX file instead of the source that model.json names")
    add_roots(parser)
    parser.add_argument("--cluster", default="", metavar="ADDRESS", help="compile on the workers of this Dask cluster: tcp://HOST:8786")
    parser.add_argument("--force", action="store_true", help="compile again, whatever the cache holds")
    required = "fail, and say what differs from the nearest result, rather than run a stage that is not in the cache"
    parser.add_argument("--require-cached", action="store_true", help=required)
    parser.add_argument("--explain", action="store_true", help="say of each stage why it ran, or that it did not have to")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Options of everything that runs a model through the tasks."""
    parser.add_argument("--pipe", default="", help="engine: aipu-host, sim, reference; onnx or torch for fp32 on the CPU")
    parser.add_argument("--frames", type=positive, default=0, metavar="N", help="stop after so many frames of each source")
