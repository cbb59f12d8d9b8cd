"""`doit compile:MODEL` and `doit compile:MODEL:STAGE`."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME, STAGES
from axforge.axruntime.pipeline import labels
from axforge.tasks.project import command_line, ready, zoo
from axforge.tasks.project.doit_state import DoitTask, Question, TaskDict, Values, prepare_state, same, snapshot
from axforge.tasks.project.failures import Guarded, report_user_errors
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT, Settings
from axforge.tasks.project.suggest import nearest
from axforge.tasks.stages.executor import Executor, Here
from axforge.tasks.stages.task import StageTask, remove_files

#: Stages that a model which is compiled already may run: they get the ONNX, for --pipe onnx.
ONNX_STAGES = STAGES[:2]


@report_user_errors
def task_compile() -> Iterator[TaskDict]:
    """compile:MODEL makes the .axmodel; compile:MODEL:STAGE stops after a stage"""
    prepare_state()
    typed = PROJECT.command_line
    yield {"name": None, "doc": task_compile.__doc__}
    executors = Executors()
    for plan in plans(typed):
        for stage in STAGES if plan.own is None else ONNX_STAGES:
            yield StageTask(plan, stage, executors.of(plan)).as_doit()
        yield (Publish(plan) if plan.own is None else OwnModel(plan, plan.own)).as_doit()


def plans(typed: command_line.CommandLine) -> list[BuildPlan]:
    """A plan for each model that the command line asks for. Raises AxforgeError for a model or stage nobody knows."""
    here = PROJECT.settings()
    for rest in typed.of_group("compile"):
        _, _, stage = rest.partition(":")
        if stage and "*" not in rest and stage not in BY_NAME:
            raise AxforgeError(f"There is no stage {stage!r} in compile:{rest}.", fix=nearest(stage, BY_NAME))
    if typed.common.onnx and len(typed.models()) != 1:
        raise AxforgeError("onnx= gives the file of one model.", fix="Name one model.")
    for name in (rest.partition(":")[0] for group in command_line.COMPILED_GROUPS for rest in typed.of_group(group)):
        if "*" not in name and ready.is_path(name):
            if not here.typed(name).exists():
                raise AxforgeError(f"There is no model {name!r}, by name or by path.", fix="See what there is: doit list.")
            raise AxforgeError(f"{name} is the path of a model that is compiled already.", fix=f"Run it: doit infer:{name}:PICTURE.")
    asked = {rest.partition(":")[0] for group in command_line.COMPILED_GROUPS for rest in typed.of_group(group)}
    named = [name for name in typed.models() if name in asked or ready.find(name, typed.options(name), here) is None]
    found = [BuildPlan(zoo.find(name, here), typed.options(name), here, PROJECT.channel) for name in named]
    known = {plan.model.name for plan in found}
    for plan in [*found]:
        added = {other.model.name: other for other in plan.with_others() if other.model.name not in known}
        found += added.values()
        known |= added.keys()
    for plan in found:
        _refuse_to_compile_own(plan, typed)
        if plan.options.force and plan.options.require_cached:
            raise AxforgeError("--force runs every stage, and --require-cached none.", where=plan.model.name, fix="Give one of them.")
    if typed.everything():
        found += _others(typed, here, known)
    return found


def _refuse_to_compile_own(plan: BuildPlan, typed: command_line.CommandLine) -> None:
    asked = [stage for model, _, stage in (rest.partition(":") for rest in typed.of_group("compile")) if model == plan.model.name]
    if plan.own and (wrong := [stage for stage in asked if stage in BY_NAME and BY_NAME[stage] not in ONNX_STAGES]):
        fix = "Omit `model` there to compile it, or run the model as it is."
        raise AxforgeError(f"There is no stage {wrong[0]}: `model` names a compiled model.", where=str(plan.model.path), fix=fix)


def _others(typed: command_line.CommandLine, here: Settings, named: set[str]) -> list[BuildPlan]:
    """Plans of all models that were not named. One with a mistake in it does not keep the others from being listed or built."""
    found = []
    for name in zoo.names(here):
        if name in named:
            continue
        try:
            plan = BuildPlan(zoo.find(name, here), typed.options(name), here, PROJECT.channel)
            _ = plan.cores
        except AxforgeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            found.append(plan)
    return found


class Executors:
    """Who runs the stages of this run: one executor for each cluster that is named, and this process."""

    def __init__(self) -> None:
        self._by_address: dict[str, Executor] = {"": Here()}

    def of(self, plan: BuildPlan) -> Executor:
        """The executor of a model's stages."""
        if plan.options.require_cached:
            return self._by_address[""]  # nobody is to run anything
        if plan.cluster not in self._by_address:
            from axforge.tasks.cluster.executor import ClusterExecutor  # loads the cache, and with the first job Dask

            self._by_address[plan.cluster] = ClusterExecutor(plan.cluster)
        return self._by_address[plan.cluster]


class OwnModel:
    """Instead of compiling: the compiled model of the user's own that model.json names is verified, and not written to."""

    def __init__(self, plan: BuildPlan, path: Path) -> None:
        self.plan, self.path = plan, path

    def as_doit(self) -> TaskDict:
        """The task as doit wants it."""
        plan = self.plan
        return {
            "name": plan.model.name,
            "doc": str(plan.model.raw.get("description", "")) or f"verify {plan.model.name}",
            "actions": [(Guarded(self.execute).__call__,)],
            "uptodate": [False],
            "params": command_line.doit_params(command_line.OPTIONS),
            "meta": {
                "model": plan.model.name,
                "finishes": f"{shown(self.path, plan)} (named by model.json; nothing is compiled)",
                "explain": plan.options.explain,
            },
        }

    def execute(self) -> None:
        """Verify it. Raises AxforgeError."""
        from axforge.axruntime.deployed.opening import open_deployed  # loads NumPy
        from axforge.tasks.project.checking import refuse_mistakes  # listing tasks checks nothing

        refuse_mistakes(self.plan)
        if not self.path.exists():
            fix = "Correct `model`, or omit it to compile the model."
            raise AxforgeError(f"There is no compiled model {self.path}, which `model` names.", where=str(self.plan.model.path), fix=fix)
        open_deployed(self.path)


class Publish:
    """The last step: model.json beside the compiled model. It holds the pipeline with its labels, and decides no compiled byte."""

    def __init__(self, plan: BuildPlan) -> None:
        self.plan = plan
        self.target = plan.published / "model.json"

    def as_doit(self) -> TaskDict:
        """The task as doit wants it."""
        plan = self.plan
        description = plan.model.raw.get("description", "")
        return {
            "name": plan.model.name,
            "doc": str(description) or f"compile {plan.model.name}",
            "actions": [(Guarded(self.execute).__call__,)],
            "file_dep": [str(path) for path in (plan.model.path, plan.axmodel, self._labels(), *self._others()) if path is not None],
            "task_dep": [f"compile:{plan.model.name}:{stage.name}" for stage in STAGES]
            + [f"compile:{other.model.name}" for other in plan.others],
            "targets": [str(self.target), *map(str, self._bundles().values())],
            "uptodate": [Question("what was published is still there", self.unchanged)],
            "clean": [(remove_files, [[str(self.target), *map(str, self._bundles().values())]])],
            "params": command_line.doit_params(command_line.OPTIONS),
            "meta": {"model": plan.model.name, "finishes": shown(plan.axmodel, plan), "explain": plan.options.explain},
        }

    def unchanged(self, task: DoitTask, values: Values) -> bool:
        """Whether what was published is still there."""
        if task.meta is not None:
            task.meta["remark"] = str(values.get("remark", ""))
        before = values.get("outputs", {})
        targets = (self.target, *self._bundles().values())
        return all(str(path) in before and same(str(path), before[str(path)]) for path in targets)

    def _bundles(self) -> dict[str, Path]:
        """The bundles beside the compiled model, of the models that its pipeline runs, by their names."""
        return {other.model.name: self.plan.published / f"{other.model.name}.zip" for other in self.plan.others}

    def _others(self) -> list[Path]:
        """What says whether those bundles are current: a published model.json has the digests of all files beside it."""
        return [other.own or other.published / "model.json" for other in self.plan.others]

    def _write_bundles(self) -> dict[str, str]:
        """Write those bundles, read-only, and give their SHA-256 by file name."""
        from axforge.axcompiler.container import write_atomic  # a build with nothing to do writes nothing
        from axforge.axruntime.deployed.bundle import bundled  # loads NumPy
        from axforge.cache.disk import READ_ONLY  # a build with nothing to do opens no cache
        from axforge.tasks.stages import edits  # a build with nothing to do writes nothing

        digests = {}
        for other in self.plan.others:
            path, source = self._bundles()[other.model.name], other.own or other.published
            if source.suffix == ".axmodel":
                fix = "Name the compiled folder there, or a zip of it."
                raise AxforgeError(f"{self.plan.model.name} runs {source}, which has no pipeline.", where=str(other.model.path), fix=fix)
            data = bundled(source) if source.is_dir() else source.read_bytes()
            digests[path.name] = hashlib.sha256(data).hexdigest()
            edits.set_aside(self.plan, [path.name], digests.values)
            write_atomic(path, data)
            path.chmod(READ_ONLY)
        return digests

    def _labels(self) -> Path | None:
        """The file with the names of classes, where model.json names one that is there."""
        name = self.plan.model.raw.get("labels")
        folders = labels.folders_of(self.plan.model.path, self.plan.label_folders)
        return labels.find(name, folders) if isinstance(name, str) else None

    def execute(self) -> Values:
        """Write model.json, atomically, with what it needs on a machine that has nothing else."""
        from axforge.axruntime.deployed.seal import published_json
        from axforge.cache.disk import READ_ONLY, sweep, unique_name  # a build with nothing to do opens no cache
        from axforge.tasks.project.checking import refuse_mistakes, share_of  # a build with nothing to do checks nothing
        from axforge.tasks.stages import edits  # a build with nothing to do writes nothing

        refuse_mistakes(self.plan, warn=False)
        descriptor = self.plan.descriptor  # a descriptor with a mistake is not published
        files = {name: hashlib.sha256((self.plan.published / name).read_bytes()).hexdigest() for name in edits.COMPILED}
        files |= self._write_bundles()
        document = published_json(self.plan.model.path.read_bytes(), descriptor.label_names, files)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        sweep(self.target.parent)
        beside = self.target.with_name(f".model.json.{unique_name()}")
        try:
            beside.write_bytes(document)
            beside.chmod(READ_ONLY)
            edits.set_aside(self.plan, [self.target.name])
            beside.replace(self.target)
        finally:
            beside.unlink(missing_ok=True)
        share = share_of(self.plan)
        said = ["" if share.enough else share.summary(), self.predicted()]
        outputs = {str(path): snapshot(str(path)) for path in (self.target, *self._bundles().values())}
        return {"outputs": outputs, "remark": "; ".join(filter(None, said))}

    def predicted(self) -> str:
        """How many frames per second the first of the vendor's boards makes of it; "" where none has such an AIPU."""
        from axforge.axruntime.axmodel import AxModel  # loads NumPy; a build with nothing to do repeats what was said
        from axforge.axruntime.prediction.boards import predict

        model = AxModel.open(self.plan.axmodel, program=False)
        predictions = predict(model.graph, model.program, model.target)
        return f"predicted: {predictions[0]}" if predictions else ""


def shown(path: Path, plan: BuildPlan) -> str:
    """A path as a user likes to read it: relative to where they typed, if it is below."""
    try:
        return str(path.relative_to(plan.settings.typed_in))
    except ValueError:
        return str(path)
