"""`axforge serve MODEL|FILE`"""

import sys
from collections.abc import Sequence
from pathlib import Path

from axforge.cli.command import MODEL_HELP, add_compilation
from axforge.usage import Parser, positive

EXAMPLES = (
    "axforge serve efficientnet_lite0-imagenet",
    "axforge serve my.onnx --port 9000",
    "axforge serve yolox_nano.zip --host 0.0.0.0      a bundle, for other machines too",
)


def parser(prog: str) -> Parser:
    """Its options."""
    what = "Answer HTTP requests with a model (Open Inference Protocol), and show a page to try it; it is compiled first if needed."
    found = Parser(prog, what, EXAMPLES)
    found.add_argument("model", metavar="MODEL|FILE", help=f"{MODEL_HELP}; or an .axmodel, a bundle or a compiled folder")
    found.add_argument("--host", default="", help="address to listen at (default: 127.0.0.1; 0.0.0.0 for other machines too)")
    found.add_argument("--port", type=positive, default=0, help="port to listen at (default: 8000)")
    found.add_argument("--pipe", default="", help="engine: aipu-host, sim or reference")
    add_compilation(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    file = Path(options.model)
    if file.suffix in (".zip", ".axmodel") or (file / "model.axmodel").is_file():
        return _serve_file(file, options.host, options.port, options.pipe)
    from axforge.cli.models import name_of  # --help and a file need no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    return project.run([f"serve:{name_of(options.model, project)}"])


def _serve_file(file: Path, host: str, port: int, engine: str) -> int:
    from axforge.axruntime.model import Model  # loads NumPy
    from axforge.axruntime.serving.server import DEFAULT_HOST, DEFAULT_PORT, ServingOptions, serve

    with Model(file, engine=engine or "aipu-host") as model:
        serve(model, ServingOptions(host or DEFAULT_HOST, port or DEFAULT_PORT), sys.stdout)
    return 0
