"""Which engine runs a model: the words after --pipe."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.ready import Ready
from axforge.tasks.project.suggest import nearest

if TYPE_CHECKING:
    from axforge.axruntime.deployed.opening import Deployed
    from axforge.axruntime.engines import Engine
    from axforge.axruntime.pipeline.candidates import StreamMemory
    from axforge.axruntime.pipeline.pipeline import Pipeline

#: Engines that run the fp32 model.
FLOAT = ("onnx", "torch")
#: Engines that run the compiled model.
COMPILED = ("aipu-host", "sim", "reference")


def pipe_of(word: str) -> str:
    """The engine a user asked for, or the fastest there is. Raises AxforgeError for one nobody knows."""
    if not word:
        return "aipu-host" if has_host() else "sim"
    if word not in (*FLOAT, *COMPILED):
        raise AxforgeError(f"There is no engine {word!r}.", fix=nearest(word, (*FLOAT, *COMPILED)))
    return word


def has_host() -> bool:
    """Whether the fast engine for this CPU is there (looked up without importing it, which would load NumPy)."""
    return (Path(__file__).resolve().parents[2] / "axruntime" / "engines" / "host" / "engine.py").is_file()


def needs(pipe: str) -> str:
    """What must be built before this engine can run: a stage, or '' for all."""
    return "fetch" if pipe in FLOAT else ""


def open_for(plan: BuildPlan, pipe: str) -> "Engine":
    """The engine with the model loaded. Raises AxforgeError."""
    from axforge.axruntime.engines.factory import engine_for, open_engine  # loads NumPy

    if isinstance(plan, Ready):
        return engine_for(pipe, plan.deployed.model)
    if plan.own is not None and pipe in COMPILED:
        from axforge.axruntime.deployed.opening import open_deployed  # loads NumPy

        return engine_for(pipe, open_deployed(plan.own).model)
    return open_engine(pipe, model_path(plan, pipe))


def pipeline_for(plan: BuildPlan, engine: "Engine", pipe: str, opened: ExitStack, memory: "StreamMemory | None" = None) -> "Pipeline":
    """The pipeline of a model on its engine. The models that it runs are opened on the engine `pipe`, and closed by `opened`."""
    from axforge.axruntime.pipeline.pipeline import Pipeline  # loads NumPy

    if isinstance(plan, Ready) or (plan.own is not None and pipe in COMPILED):
        from axforge.axruntime.deployed.opening import open_deployed  # loads NumPy

        deployed = plan.deployed if isinstance(plan, Ready) else open_deployed(plan.own or plan.axmodel)
        return Pipeline(plan.descriptor, engine, memory, _deployed_others(deployed, pipe, opened))
    models = {}
    for other in plan.others:
        inner = open_for(other, pipe)
        opened.callback(inner.close)
        models[other.model.name] = pipeline_for(other, inner, pipe, opened)
    return Pipeline(plan.descriptor, engine, memory, models)


def _deployed_others(deployed: "Deployed", pipe: str, opened: ExitStack) -> "dict[str, Pipeline]":
    from axforge.axruntime.engines.factory import engine_for  # loads NumPy
    from axforge.axruntime.pipeline.pipeline import Pipeline  # loads NumPy

    models = {}
    for name, other in deployed.others.items():
        if other.descriptor is None:
            raise AxforgeError(f"The model {name!r} has no pipeline, so it takes no pictures.", where=other.where)
        engine = engine_for(pipe, other.model)
        opened.callback(engine.close)
        models[name] = Pipeline(other.descriptor, engine, models=_deployed_others(other, pipe, opened))
    return models


def model_path(plan: BuildPlan, pipe: str) -> Path:
    """The file that an engine loads."""
    return plan.outputs(BY_NAME["fetch"])["model.onnx"] if pipe in FLOAT else plan.axmodel
