"""What compiling one model means: its stages, where their artefacts go, and how each is configured.

    build/<network>/<model>/stages/<stage>/...          fetch to optimize; the same for any number of cores
    build/<network>/<model>/stages/tile-<cores>/...
    build/<network>/<model>/<cores>/model.json, model.axmodel, manifest.json

Making a BuildPlan reads model.json as plain JSON only; `BuildPlan.descriptor` checks it in depth, when something must run.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from axforge import axcompiler
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import STAGES, Stage
from axforge.axruntime.packages import how_to_install
from axforge.axruntime.pipeline.models import models_run
from axforge.tasks.project.command_line import ModelOptions
from axforge.tasks.project.progress import Channel
from axforge.tasks.project.settings import Settings, zoo_folder
from axforge.tasks.project.zoo import ZooModel, find

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.calibration import CalibrationItem
    from axforge.axruntime.pipeline.descriptor import Descriptor

SDK = f"axforge {axcompiler.__version__}"
MAX_CORES = 4
#: Folders of stages whose artefacts depend on the number of cores, below the model's own.
_FOLDERS = {"tile": "stages/tile-{cores}", "pack": "{cores}"}


@dataclass(frozen=True)
class BuildPlan:
    """One model with the options it is compiled with.

    channel: where its stages report to. samples: what to calibrate with, where that was chosen on another machine.
    """

    model: ZooModel
    options: ModelOptions
    settings: Settings
    channel: Channel = field(default_factory=Channel, compare=False)
    samples: "tuple[CalibrationItem, ...] | None" = None

    @cached_property
    def descriptor(self) -> "Descriptor":
        """model.json, checked. Raises AxforgeError."""
        from axforge.axruntime.pipeline.descriptor import load_descriptor  # loads msgspec

        return load_descriptor(self.model.path, self.label_folders)

    @cached_property
    def others(self) -> "list[BuildPlan]":
        """Plans of the models that its pipeline runs on parts of a picture. Raises AxforgeError for one that is not there.

        What was typed about the ONNX is about this model alone.
        """
        options = replace(self.options, onnx="")
        return [BuildPlan(self._found(name), options, self.settings, self.channel) for name in models_run(self.model.raw)]

    def _found(self, name: str) -> ZooModel:
        try:
            return find(name, self.settings)
        except AxforgeError as error:
            raise AxforgeError(f"A step runs the model {name!r}: {error.what}", where=str(self.model.path), fix=error.fix) from None

    def with_others(self) -> "list[BuildPlan]":
        """This plan, those of the models that it runs, those that they run, and so on, each once. Raises AxforgeError for a circle."""
        found: dict[str, BuildPlan] = {}
        _collect(self, (), found)
        return list(found.values())

    @property
    def label_folders(self) -> list[Path]:
        """Where its label file may be, besides the folders around model.json: the data root, and the labels that come with axforge."""
        return [root for root in (self.settings.data_root, zoo_folder() / "labels") if root is not None]

    @cached_property
    def cores(self) -> int:
        """AIPU cores to compile for: as the options say, else as the descriptor says, else 1. AxforgeError for others than 1 to 4."""
        cores = self.options.cores or self._tile_option("cores", 1)
        if not isinstance(cores, (int, float)) or cores not in range(1, MAX_CORES + 1):
            raise AxforgeError(f"An AIPU has 1 to {MAX_CORES} cores, not {cores}.", where=self.model.name, fix="Give --aipu-cores 1 to 4.")
        return int(cores)

    @property
    def target(self) -> Path:
        """The file that describes the AIPU."""
        if self.own_target:
            return self.model.path.parent / self.own_target
        return Path(axcompiler.__file__).parent / "targets" / f"{self._tile_option('target', 'metis')}.yaml"

    @property
    def own_target(self) -> str:
        """That file's path beside model.json, where it is not one that comes with axforge."""
        name = str(self._tile_option("target", "metis"))
        return name if name.endswith((".yaml", ".yml")) else ""

    def _tile_option(self, name: str, default: object) -> object:
        options = self.model.raw.get("compile", {})
        tile = options.get("tile", {}) if isinstance(options, dict) else {}
        return tile.get(name, default) if isinstance(tile, dict) else default

    @property
    def cluster(self) -> str:
        """Address of the scheduler whose workers are to do the work; '' to do it here."""
        return self.options.cluster or self.settings.cluster

    @property
    def scope(self) -> str:
        """The workspace that "the last build" means, in the cache's history."""
        return str(self.settings.build_root)

    # --- where ---

    @property
    def root(self) -> Path:
        """Everything of this model."""
        return self.model.build_folder(self.settings)

    @property
    def published(self) -> Path:
        """The folder with the compiled model."""
        return self.root / str(self.cores)

    @cached_property
    def own(self) -> Path | None:
        """The compiled model of the user's own that model.json names; None if the one that compiling writes is to run.

        Its path is relative to the network's build folder, or else to model.json. It is read and verified, and never written to.
        """
        if not self.model.own:
            return None
        places = [folder / self.model.own for folder in (self.root.parent, self.model.path.parent)]
        return next((place for place in places if place.exists()), places[0])

    @property
    def axmodel(self) -> Path:
        """The compiled model that runs."""
        return self.own or self.published / "model.axmodel"

    @property
    def results(self) -> Path:
        """Where results of runs go by default."""
        return self.root / "results"

    def folder(self, stage: Stage) -> Path:
        """Where a stage's artefacts go."""
        return self.root / _FOLDERS.get(stage.name, "stages/{stage}").format(stage=stage.name, cores=self.cores)

    def outputs(self, stage: Stage) -> dict[str, Path]:
        """Paths of what a stage writes, by file name."""
        return {name: self.folder(stage) / name for name in stage.outputs}

    def inputs(self, stage: Stage) -> dict[str, Path]:
        """Paths of the artefacts a stage reads, by file name."""
        made = {name: path for earlier in STAGES for name, path in self.outputs(earlier).items()}
        return {name: made[name] for name in stage.inputs}

    @cached_property
    def quick(self) -> str:
        """A digest of all settings of this model as they were given; cheap, and it may change where nothing else does."""
        given = self.options.onnx and str(self.settings.typed(self.options.onnx))
        where = [self.model.path, self.settings.data_root, self.settings.build_root, self.target]
        options = [given, self.options.num_cal_images, self.options.effort]
        return digest([3, SDK, self.cores, options, [str(path) for path in where], self.model.raw])


def _collect(plan: BuildPlan, above: tuple[str, ...], found: dict[str, BuildPlan]) -> None:
    name = plan.model.name
    if name in above:
        circle = " runs ".join((*above[above.index(name) :], name))
        raise AxforgeError(f"Models run each other in a circle: {circle}.", where=str(plan.model.path), fix="Remove one of the steps.")
    found.setdefault(name, plan)
    for other in plan.others:
        _collect(other, (*above, name), found)


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Versions of installed distributions. Raises AxforgeError for one that is missing."""
    return {name: _version(name) for name in libraries}


@lru_cache
def _version(name: str) -> str:
    """The version of one distribution; kept, because finding it parses all its metadata, and every stage asks."""
    try:
        return version(name)
    except PackageNotFoundError:
        raise AxforgeError(f"The package {name} is not installed.", fix=how_to_install(name)) from None


def digest(value: object) -> str:
    """A hash of a JSON value, for comparing with what was remembered."""
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
