"""`python compile.py` and `./inference.py`: ordinary commands with --help that run the same doit tasks."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from axforge import tasks
from axforge.tasks import command_line, settings


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--aipu-cores", type=int, choices=range(1, 5), default=0, metavar="N", help="AIPU cores to compile for, 1 to 4")
    parser.add_argument("--num-cal-images", type=_positive, default=0, metavar="N", help="images to calibrate with")
    parser.add_argument("--onnx", default="", metavar="PATH", help="take this ONNX file instead of the source that model.json names")
    parser.add_argument("--build-root", default="", metavar="DIR", help=f"where results go (default: {settings.BUILD_ROOT}, else build/)")
    parser.add_argument("--data-root", default="", metavar="DIR", help=f"folder with models and data sets (default: {settings.DATA_ROOT})")
    parser.add_argument("--cluster", default="", metavar="ADDRESS", help="compile on the workers of this Dask cluster: tcp://HOST:8786")
    parser.add_argument("--force", action="store_true", help="compile again, whatever the cache holds")
    parser.add_argument("--explain", action="store_true", help="say of each stage why it ran, or that it did not have to")


def compile_main(argv: Sequence[str] | None = None) -> int:
    """`compile.py MODEL…`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="compile.py", description="Compile models of the zoo: ONNX to an int8 .axmodel.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name of a model (doit list --all shows them)")
    parser.add_argument("-j", "--jobs", type=int, default=0, metavar="K", help="models to compile at once")
    _common(parser)
    options = parser.parse_args(argv)
    return run(options, [f"compile:{model}" for model in options.models], jobs=options.jobs)


def inference_main(argv: Sequence[str] | None = None) -> int:
    """`inference.py MODEL SOURCE…`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="inference.py", description="Run a model on pictures and videos; it is compiled first if needed.")
    parser.add_argument("model", metavar="MODEL", help="name of a model (doit list --all shows them)")
    sources = "a picture, folder or video, sample:NAME, fakevideo:WIDTHxHEIGHT, dataset, usb:N, or an address"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=sources)
    parser.add_argument("--pipe", default="", help="engine: aipu-host, sim, reference; onnx or torch for fp32 on the CPU")
    parser.add_argument("--frames", type=_positive, default=0, metavar="N", help="stop after so many frames of each source")
    parser.add_argument("--save-output", default="", metavar="PATH", help="annotated picture or video, or a folder for them")
    _common(parser)
    options = parser.parse_args(argv)
    return run(options, [f"infer:{options.model}:{source}" for source in options.sources])


def run(options: argparse.Namespace, tasks: Sequence[str], jobs: int = 0) -> int:
    """Run tasks in this process as doit would; paths are relative to where the command was typed."""
    typed_in = Path.cwd()
    os.chdir(settings.zoo_folder().parent)
    said = {**vars(options), "cores": options.aipu_cores}
    variables = [f"{o.variable}={value}" for o in command_line.ALL_OPTIONS if (value := said.get(o.name, ""))]
    settings.PROJECT.start([*variables, *tasks], typed_in)
    return main(["run", *(["-n", str(jobs)] if jobs > 1 else []), *map(command_line.encoded, tasks)])


def main(arguments: Sequence[str]) -> int:
    """doit, in this process, with the tasks of this package. The words must have been set."""
    namespace = {name: getattr(tasks, name) for name in tasks.__all__}
    try:
        return int(DoitMain(ModuleTaskLoader(namespace), config_filenames=()).run(list(arguments)) or 0)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept.", file=sys.stderr)
        return 130
