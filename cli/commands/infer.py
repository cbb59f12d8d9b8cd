"""`axforge infer MODEL SOURCE…`"""

from collections.abc import Sequence

from axforge.cli.command import MODEL_HELP, SOURCE_HELP, add_compilation, add_engine
from axforge.usage import Parser

EXAMPLES = (
    "axforge infer efficientnet_lite0-imagenet sample:grace_hopper",
    "axforge infer my.onnx picture.jpg --save-output seen.png",
    "axforge infer my-detector street.mp4 --frames 100",
    "axforge infer my-detector photos/ --pipe onnx      fp32, without compiling",
)


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Run a model on pictures and videos; it is compiled first if needed.", EXAMPLES)
    found.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    found.add_argument("sources", nargs="+", metavar="SOURCE", help=SOURCE_HELP)
    add_engine(found)
    found.add_argument("--save-output", default="", metavar="PATH", help="annotated picture or video, or a folder for them")
    found.add_argument(
        "--strict", action="store_true", help="stop at a picture of a folder or list that cannot be read, instead of skipping it"
    )
    found.add_argument("--show-stats", action="store_true", help="show the time of each step a frame, and which is the bottleneck")
    found.add_argument("--show-stream-timing", action="store_true", help="show percentiles of the latency, and the jitter")
    add_compilation(found)
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    options = parser(prog).parse_args(words)
    from axforge.cli.models import name_of  # --help needs no doit
    from axforge.cli.tasks_runner import UserProject

    project = UserProject(options)
    name = name_of(options.model, project)
    return project.run([f"infer:{name}:{source}" for source in options.sources])
