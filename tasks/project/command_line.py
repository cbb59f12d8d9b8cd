"""What the user typed: which models, which sources, which options. Only the tasks this names are created.

doit has three habits that this module lives with: it takes any word with `=` for itself as a variable (also
`infer:m:rtsp://cam/x?ch=1`), forbids `=` in a task name, and creates tasks before it looks at what was selected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from getopt import GetoptError, getopt
from typing import Any, NamedTuple

from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project.suggest import nearest

#: Tasks of this project that take `:NAME`.
GROUPS = ("compile", "infer", "serve", "accuracy", "report", "fit")
#: Those whose models are compiled, so that a compiled one of the user's cannot take the place.
COMPILED_GROUPS = ("compile", "accuracy", "report", "fit")
#: Groups and tasks that, without a name behind them, are not for all models.
NAMED_ONLY = ("usage", "cache", "infer", "serve", "report", "fit")
#: doit's commands that look at many tasks unless some are named.
COMMANDS = ("list", "info", "clean", "forget", "ignore", "reset-dep", "tabcompletion", "dumpdb", "strace", "help")


@dataclass(frozen=True)
class ModelOptions:
    """What may be said of a compilation or a run, by option (`--aipu-cores 4`) or by doit variable (`cores=4`)."""

    cores: int = 0
    onnx: str = ""
    num_cal_images: int = 0
    effort: str = ""
    force: bool = False
    require_cached: bool = False
    explain: bool = False
    cluster: str = ""
    build_root: str = ""
    data_root: str = ""
    pipe: str = ""
    frames: int = 0
    save_output: str = ""
    strict: bool = False
    show_stats: bool = False
    show_stream_timing: bool = False
    host: str = ""
    port: int = 0
    fail_above: str = ""
    junit: str = ""
    layers: bool = False
    fps: int = 0


class Option(NamedTuple):
    """One option: its field in ModelOptions, the variable and flag that set it, and what it does."""

    name: str
    variable: str
    flag: str
    kind: type
    help: str


OPTIONS: tuple[Option, ...] = (
    Option("cores", "cores", "aipu-cores", int, "AIPU cores to compile for, 1 to 4 (default: what the model's descriptor says, else 1)"),
    Option("onnx", "onnx", "onnx", str, "take this ONNX file instead of the source the descriptor names"),
    Option("num_cal_images", "images", "num-cal-images", int, "images to calibrate with"),
    Option("effort", "effort", "effort", str, "how long to look for the best int8 ranges: fast, normal or best (default: normal)"),
    Option("force", "force", "force", bool, "compile again, whatever the cache holds"),
    Option(
        "require_cached",
        "require_cached",
        "require-cached",
        bool,
        "fail, and say what differs from the nearest result, rather than run a stage that is not in the cache",
    ),
    Option("explain", "explain", "explain", bool, "say of each stage why it ran, or that it did not have to"),
    Option("cluster", "cluster", "cluster", str, "compile and measure on the workers of a Dask cluster: tcp://HOST:8786"),
    Option("build_root", "build_root", "build-root", str, "where results go (default: AXFORGE_BUILD_ROOT, else build/)"),
    Option("data_root", "data_root", "data-root", str, "folder with models and data sets (default: AXFORGE_DATA_ROOT)"),
)
RUN_OPTIONS: tuple[Option, ...] = (
    Option("pipe", "pipe", "pipe", str, "engine: aipu-host, sim, reference, or onnx (also torch) for fp32 on the CPU"),
    Option("frames", "frames", "frames", int, "stop after so many frames"),
    Option("save_output", "save", "save-output", str, "where to write the annotated picture, video or folder"),
    Option("strict", "strict", "strict", bool, "stop at a picture of a folder or list that cannot be read, instead of skipping it"),
)
STREAM_OPTIONS: tuple[Option, ...] = (
    Option("show_stats", "show_stats", "show-stats", bool, "show the time of each step a frame, and which is the bottleneck"),
    Option("show_stream_timing", "show_stream_timing", "show-stream-timing", bool, "show percentiles of the latency, and the jitter"),
)
SERVE_OPTIONS: tuple[Option, ...] = (
    Option("host", "host", "host", str, "address to listen at (default: 127.0.0.1; 0.0.0.0 for other machines too)"),
    Option("port", "port", "port", int, "port to listen at (default: 8000)"),
)
ACCURACY_OPTIONS: tuple[Option, ...] = (
    Option(
        "fail_above",
        "fail_above",
        "fail-above",
        str,
        "fail when int8 loses more than so many points (default: what model.json allows, else 2)",
    ),
    Option("junit", "junit", "junit", str, "also write the verdicts into this file, as JUnit XML"),
    Option("layers", "layers", "layers", bool, "show which tensors the loss comes from and what would help; needs no data set"),
)
FIT_OPTIONS: tuple[Option, ...] = (
    Option("fps", "fps", "fps", int, "frames per second that are wanted: which size of input would reach them"),
)
ALL_OPTIONS = OPTIONS + RUN_OPTIONS + STREAM_OPTIONS + SERVE_OPTIONS + ACCURACY_OPTIONS + FIT_OPTIONS
#: The options of each group of tasks.
OF_GROUP = {
    "compile": OPTIONS,
    "infer": OPTIONS + RUN_OPTIONS + STREAM_OPTIONS,
    "serve": OPTIONS + RUN_OPTIONS[:1] + SERVE_OPTIONS,
    "accuracy": OPTIONS + RUN_OPTIONS + ACCURACY_OPTIONS,
    "report": OPTIONS,
    "fit": OPTIONS + FIT_OPTIONS,
}


def doit_params(options: Iterable[Option]) -> list[dict[str, Any]]:
    """The options as `params` of a doit task."""
    defaults = {f.name: f.default for f in fields(ModelOptions)}
    return [{"name": o.name, "long": o.flag, "short": "", "type": o.kind, "default": defaults[o.name], "help": o.help} for o in options]


@dataclass(frozen=True)
class CommandLine:
    """The command line, understood.

    command: of doit. tasks: words that name tasks, as typed. swallowed: those that doit took for variables.
    by_model: options of each model that was named; common: options for all. everything: whether all tasks are to be created.
    """

    command: str
    tasks: tuple[str, ...]
    swallowed: tuple[str, ...]
    common: ModelOptions
    by_model: dict[str, ModelOptions] = field(default_factory=dict)
    in_full: bool = False

    def of_group(self, group: str) -> list[str]:
        """What follows `group:` in the words typed, each once."""
        return list(dict.fromkeys(task.split(":", 1)[1] for task in self.tasks if task.startswith(f"{group}:") and task != f"{group}:"))

    def models(self) -> list[str]:
        """The models that are named, each once."""
        named = [rest.split(":", 1)[0] for group in GROUPS for rest in self.of_group(group)]
        return list(dict.fromkeys(name for name in named if "*" not in name))

    def everything(self) -> bool:
        """Whether the tasks of all models are wanted: a whole group, a pattern, a target, or `doit list`."""
        if self.command == "list" and not self.tasks:
            return self.in_full
        if self.command != "run":
            return not self.models()
        return any("*" in task or (":" not in task and task not in NAMED_ONLY) for task in self.tasks)

    def root(self, name: str) -> str:
        """`build_root` or `data_root` as an option or a variable says it; they hold for the whole run. '' if nothing says it."""
        said = {getattr(options, name) for options in (self.common, *self.by_model.values())} - {""}
        if len(said) > 1:
            flag = f"--{name.replace('_', '-')}"
            raise AxforgeError(f"{flag} is given twice: {' and '.join(sorted(said))}.", fix="Run doit once for each of them.")
        return next(iter(said), "")

    def options(self, model: str) -> ModelOptions:
        """The options that hold for one model."""
        return self.by_model.get(model, self.common)


def refuse_bare(group: str, typed: CommandLine) -> None:
    """Raises AxforgeError where `group` was typed without a model and is to run."""
    if typed.command == "run" and (group in typed.tasks or f"{group}:" in typed.tasks):
        raise AxforgeError(f"{group} needs a model.", fix=f"For example: doit {group}:efficientnet_lite0-imagenet")


def encoded(task: str) -> str:
    """A task name doit accepts."""
    return task.replace("%", "%25").replace("=", "%3D") if "=" in task else task


def decoded(task: str) -> str:
    """A task name as it was typed."""
    return task.replace("%3D", "=").replace("%25", "%") if task.startswith("infer:") else task


def read(words: Sequence[str], *, by_doit: bool = True) -> CommandLine:
    """Understand the words after the program's name. Raises AxforgeError for a variable nobody knows.

    by_doit: doit reads the same words, and takes those with a `=` for variables; a front end gives it names that it does not.
    """
    argv = list(words)
    command = argv[0] if argv and argv[0] in COMMANDS else "run"
    rest = argv[1:] if argv and argv[0] in (*COMMANDS, "run") else argv
    common = _variables(rest)
    tasks: list[str] = []
    swallowed: list[str] = []
    by_model: dict[str, ModelOptions] = {}
    for i, word in enumerate(rest):
        if not _names_a_task(word, rest[i - 1] if i else ""):
            continue
        tasks.append(word)
        if "=" in word and by_doit:
            swallowed.append(word)
        if word.split(":")[0] in GROUPS and ":" in word:
            model = word.split(":")[1]
            by_model[model] = _merge(by_model.get(model), _flags(common, word, rest[i + 1 :], command), model)
        if word == "cache":
            break  # the rest belongs to `cache`
    return CommandLine(command, tuple(tasks), tuple(swallowed), common, by_model, "--all" in rest)


def _names_a_task(word: str, before: str) -> bool:
    if not word or word.startswith("-"):
        return False
    if word.split(":")[0] in (*GROUPS, "usage", "cache"):
        return True
    return "=" not in word and not before.startswith("-")


def _merge(old: ModelOptions | None, new: ModelOptions, model: str) -> ModelOptions:
    if old is None:
        return new
    merged = {}
    for f in fields(ModelOptions):
        mine, other = getattr(new, f.name), getattr(old, f.name)
        if mine and other and mine != other and f.name in ("cores", "onnx", "num_cal_images", "effort"):
            raise AxforgeError(
                f"{model} is named twice with different {f.name} ({other} and {mine}).", fix="Run doit once for each of them."
            )
        merged[f.name] = mine or other
    return ModelOptions(**merged)


def _variables(rest: Sequence[str]) -> ModelOptions:
    known = {o.variable: o for o in ALL_OPTIONS}
    found: dict[str, Any] = {}
    for word in rest:
        if word.startswith("-") or "=" not in word or word.split(":")[0] in GROUPS:
            continue
        name, value = word.split("=", 1)
        if name not in known:
            raise AxforgeError(f"There is no variable {name!r} (in {word!r}).", fix=nearest(name, known))
        found[known[name].name] = _converted(known[name], value)
    return replace(ModelOptions(), **found)


def _flags(common: ModelOptions, task: str, following: Sequence[str], command: str) -> ModelOptions:
    """The flags that follow a task's name, up to the next name. Raises AxforgeError for one that the task does not take."""
    known = {o.flag: o for o in OF_GROUP.get(task.partition(":")[0], ALL_OPTIONS)}
    try:
        pairs, _ = getopt(list(following), "", [flag if o.kind is bool else f"{flag}=" for flag, o in known.items()])
    except GetoptError as error:
        if command != "run":
            return common  # it may be an option of doit's own command
        taken = f"It takes --{', --'.join(known)}."
        raise AxforgeError(f"{error.msg[0].upper()}{error.msg[1:]}.", where=task, fix=taken) from None
    found: dict[str, Any] = {}
    for flag, value in pairs:
        option = known[flag.removeprefix("--")]
        found[option.name] = True if option.kind is bool else _converted(option, value)
    return replace(common, **found)


def _converted(option: Option, value: str) -> Any:
    if option.kind is bool:
        return value.lower() in ("1", "yes", "true", "on", "")
    if option.kind is int and not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value)):
        raise AxforgeError(f"--{option.flag} takes a whole number of at least 1, not {value!r}.")
    return option.kind(value)
