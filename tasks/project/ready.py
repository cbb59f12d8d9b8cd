"""Compiled models that run as they are, without the tasks that compile: files of the user's own, and builds whose sources are away."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.models import FILE, NAME
from axforge.tasks.project import zoo
from axforge.tasks.project.command_line import OPTIONS, ModelOptions
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import PROJECT, Settings
from axforge.tasks.project.zoo import ZooModel

if TYPE_CHECKING:
    from axforge.axruntime.deployed.opening import Deployed
    from axforge.axruntime.pipeline.descriptor import Descriptor

#: What a full folder of a compiled model holds.
FILES = ("model.axmodel", "manifest.json", FILE)
_ENDINGS = (".axmodel", ".zip")


@dataclass(frozen=True)
class Ready(BuildPlan):
    """A compiled model that runs and is never compiled or written to. compiled: its folder, a zip of that, or an `.axmodel`."""

    compiled: Path = Path()

    @cached_property
    def deployed(self) -> "Deployed":
        """Its files, verified. Raises AxforgeError."""
        from axforge.axruntime.deployed.opening import open_deployed  # loads NumPy

        return open_deployed(self.compiled)

    @cached_property
    def descriptor(self) -> "Descriptor":
        """The pipeline: of the zoo's model.json, or of the one that comes with the compiled model. Raises AxforgeError."""
        if self.model.path.name == FILE:
            return super().descriptor
        if self.deployed.descriptor is None:
            fix = f"Put its {FILE} beside it; docs/models.md describes it."
            raise AxforgeError("The model has no pipeline, so it takes no pictures.", where=str(self.compiled), fix=fix)
        return self.deployed.descriptor

    @property
    def results(self) -> Path:
        """Where results of runs go by default: never beside a file of the user's own."""
        return super().results if self.model.path.name == FILE else self.settings.build_root / self.model.name / "results"


def is_path(word: str) -> bool:
    """Whether a word can only be the path of a compiled model, and not the name of a model."""
    return word.endswith(_ENDINGS) or NAME.fullmatch(word) is None


def find(word: str, options: ModelOptions, here: Settings) -> Ready | None:
    """The compiled model that a word names: a path, or a build of a model whose model.json is away. None if it names a model."""
    if not is_path(word):
        if zoo.known(word, here):
            return None
        built = _built(word, options, here)
        if built is not None:
            return Ready(ZooModel(word, built, {}), options, here, PROJECT.channel, compiled=built)
    path = here.typed(word)
    if not is_path(word) and not (path / FILES[0]).is_file():
        return None
    return Ready(ZooModel(_name(path), path, {}), options, here, PROJECT.channel, compiled=path)


def refuse_options(plan: Ready, pipe: str, floats: tuple[str, ...]) -> None:
    """Raises AxforgeError for what cannot be asked of a model that is compiled already."""
    flags = {o.name: f"--{o.flag}" for o in OPTIONS if o.name in ("force", "onnx", "num_cal_images", "effort", "cores")}
    for name, flag in flags.items():
        if getattr(plan.options, name) and not (name == "cores" and plan.compiled.is_relative_to(plan.settings.build_root)):
            raise AxforgeError(f"{flag} is about compiling, and this is compiled already.", where=str(plan.compiled), fix=f"Omit {flag}.")
    if pipe in floats:
        fix = "Omit --pipe, or take aipu-host, sim or reference."
        raise AxforgeError(f"The engine {pipe} runs an ONNX, and this is compiled already.", where=str(plan.compiled), fix=fix)


def is_full(folder: Path) -> bool:
    """Whether all files of a compiled model are in a folder."""
    return all((folder / name).is_file() for name in FILES)


def _built(name: str, options: ModelOptions, here: Settings) -> Path | None:
    """A full folder build/<network>/<model>/<cores> of that network."""
    found = sorted(path.parent for path in (here.build_root / name).glob(f"*/[1-4]/{FILES[0]}") if is_full(path.parent))
    return next((folder for folder in found if options.cores in (0, int(folder.name))), None)


def _name(path: Path) -> str:
    """What results of a path are filed under: in a build, the model's name."""
    words = [path.stem if path.suffix in _ENDINGS else path.name, path.parent.name, path.parent.parent.name]
    plain = [word for word in words if NAME.fullmatch(word) and not re.fullmatch(r"[1-4]|model", word)]
    return plain[0] if plain else "model"
