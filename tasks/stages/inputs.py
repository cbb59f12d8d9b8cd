"""Everything that decides what a stage writes, described once.

From this one description follow the key of the cache, doit's question whether a stage must be looked at again, and the call of the
stage. What is particular to a stage (where its model comes from, its samples, its target, what it says) is one small class.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME, CalibrateConfig, Progress, QuantizeConfig, Stage
from axforge.tasks.project.plan import SDK, BuildPlan, digest, versions
from axforge.tasks.stages.code import sources

if TYPE_CHECKING:
    from axforge.cache.key import Action, Input
    from axforge.cache.store import Store
    from axforge.tasks.stages.samples import Chosen
    from axforge.tasks.stages.source import Origin

#: Name of a stage's code among its inputs, in keys and explanations.
CODE = "code"
#: Form of the keys that are made here. Another number makes all earlier results unknown.
FORM = 1
#: What an input of many files consists of, for explanations.
NOUNS: Mapping[str, str] = {"calibration": "image", CODE: "module"}


class StageInputs:
    """The inputs of a stage that has nothing but artefacts, a configuration and code. Nothing is opened before it is asked for."""

    def __init__(self, plan: BuildPlan, stage: Stage) -> None:
        self.plan, self.stage = plan, stage

    # --- what decides bytes: all of this is in the key ---

    @property
    def artefacts(self) -> Mapping[str, Path]:
        """What earlier stages wrote, by name."""
        return self.plan.inputs(self.stage)

    @property
    def files(self) -> Mapping[str, Path]:
        """Other files, by name. Raises AxforgeError when one is not there."""
        return {}

    def trees(self, store: "Store") -> Mapping[str, "Input"]:
        """Inputs that are many files."""
        return {}

    def config(self) -> Any:
        """The stage's configuration: its defaults, what the descriptor says, and what the options say. Raises AxforgeError."""
        from axforge.axruntime.pipeline.descriptor import stage_options  # loads msgspec

        return replace(self.stage.config(), **stage_options(self.plan.descriptor, self.stage.name))

    def named_config(self) -> Mapping[str, object]:
        """The configuration as it enters the key: content instead of paths."""
        return asdict(self.config())

    @property
    def facts(self) -> Mapping[str, object]:
        """What else decides, known only when the files have been looked at."""
        return {}

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions whose version decides."""
        return self.stage.libraries

    @property
    def entries(self) -> tuple[str, ...]:
        """Modules where the code begins that decides; what they import belongs to it."""
        return (f"axforge.axcompiler.{self.stage.name}",)

    @property
    def asked(self) -> tuple[str, ...]:
        """Modules that take part in making the configuration. When their code changes, it is made again, and compared."""
        return ()

    # --- what selects files: not in the key, for another path to the same content changes nothing ---

    def choice(self) -> tuple[object, ...]:
        """What was given to select files."""
        return ()

    def watched(self) -> list[Path]:
        """Files and folders whose change may mean work, and which doit does not know of."""
        return list(self.files.values())

    # --- what follows from it ---

    def spec(self) -> str:
        """A digest of the settings of the stage, before any file is looked at."""
        return digest([FORM, SDK, self.stage.name, self.named_config(), [repr(given) for given in self.choice()]])

    def action(self, store: "Store", made: Mapping[str, str] | None = None) -> "Action":
        """The action, named by the content that all inputs have now. made: SHA-256 of artefacts that need not be in place."""
        from axforge.cache.key import Action, Tree  # a build with nothing to do opens no cache

        known: Mapping[str, Input] = {name: content for name, content in (made or {}).items() if name in self.artefacts}
        paths = {name: path for name, path in {**self.artefacts, **self.files}.items() if name not in known}
        found = dict(zip(paths, store.files.digests(paths.values()), strict=True))
        kept = store.files.note("code")  # outlives the build folder
        modules = sources().files(self.entries, self.plan.settings.code_memory, *([kept] if kept else []))
        code = {CODE: Tree.of(modules, names_matter=True)} if modules else {}
        return Action(
            stage=self.stage.name,
            stage_version=FORM,
            inputs={**found, **known, **self.trees(store), **code},
            config={**self.named_config(), **self.facts},
            sdk=SDK,
            libraries=versions(self.libraries),
            outputs=self.stage.outputs,
        )

    def run(self, store: "Store", folder: Path, report: Progress) -> None:
        """Run the stage into an empty folder."""
        self.stage.run()(self.artefacts, self.config(), folder, report)

    # --- before and after the stage ---

    def refuse_mistakes(self) -> None:
        """Raise AxforgeError for what is known to be wrong before anything is opened."""

    def set_edits_aside(self, store: "Store", action: "Action") -> None:
        """Keep what a user wrote into the files that the stage is about to write."""

    def remarks(self) -> list[str]:
        """What the user should know of the result, once it is in place."""
        return []


class FetchInputs(StageInputs):
    """The source of the model."""

    @cached_property
    def origin(self) -> "Origin":
        """The source, looked at. Raises AxforgeError when it is not there."""
        from axforge.tasks.stages.source import origin  # loads onnx when it looks

        return origin(self.plan.descriptor.source, self.plan.options.onnx, self.plan.model.name, self.plan.settings)

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that are inputs of this stage. Raises AxforgeError when one is not there."""
        return self.origin.files

    @property
    def facts(self) -> Mapping[str, object]:
        """What the source says besides files, such as a checksum."""
        return self.origin.facts

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions whose version decides."""
        return self.origin.libraries

    @property
    def entries(self) -> tuple[str, ...]:
        """The modules where the code begins that decides."""
        return self.origin.entries

    def choice(self) -> tuple[object, ...]:
        """What was given to select files."""
        given = self.plan.options.onnx
        return self.plan.descriptor.source, given and self.plan.settings.typed(given), self.plan.settings.data_root

    def run(self, store: "Store", folder: Path, report: Progress) -> None:
        """Run the stage into an empty folder."""
        self.origin.write(folder / "model.onnx", report)

    def refuse_mistakes(self) -> None:
        """Raise AxforgeError for mistakes in model.json, because this is the first stage."""
        from axforge.tasks.project.checking import refuse_mistakes  # a build with nothing to do checks nothing

        refuse_mistakes(self.plan)


class CheckInputs(StageInputs):
    """The configuration of check."""

    def remarks(self) -> list[str]:
        """That most of the network does not run on the AIPU, if so."""
        from axforge.tasks.project.checking import offloaded  # a build with nothing to do checks nothing
        from axforge.tasks.project.settings import PROJECT

        return [] if PROJECT.only_looks else [finding.line() for finding in offloaded(self.plan)]


class CalibrateInputs(StageInputs):
    """The samples that ranges are measured on."""

    @cached_property
    def chosen(self) -> "Chosen":
        """The samples. Raises AxforgeError when there are none."""
        return chosen_samples(self.plan)

    def trees(self, store: "Store") -> Mapping[str, "Input"]:
        """The samples, as one input of many files."""
        from axforge.tasks.stages import samples  # loads msgspec

        return {samples.INPUT: self.chosen.tree(self.chosen.names(store))}

    def config(self) -> Any:
        """What is given for this stage, and what quantize's algorithms need of it. Raises AxforgeError for what quantize would refuse."""
        own: CalibrateConfig = super().config()
        quantize = inputs_of(self.plan, BY_NAME["quantize"]).config()
        if quantize == QuantizeConfig() and not own.algorithms:
            return own  # `for_calibrate` would change nothing, and loads ONNX
        from axforge.axcompiler.quantize.choice import for_calibrate

        return for_calibrate(own, quantize)

    @property
    def asked(self) -> tuple[str, ...]:
        """Modules whose code decides what the stage is asked for."""
        return ("axforge.axcompiler.quantize",)

    def named_config(self) -> Mapping[str, object]:
        """The configuration as it enters the key."""
        from axforge.tasks.stages.samples import preprocessing  # loads msgspec

        return {**super().named_config(), "preprocessing": preprocessing(self.plan.descriptor)}

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions whose version decides."""
        from axforge.tasks.stages.samples import LIBRARIES  # loads msgspec

        return (*self.stage.libraries, *LIBRARIES)

    @property
    def entries(self) -> tuple[str, ...]:
        """The modules where the code begins that decides."""
        return (*super().entries, "axforge.tasks.stages.samples")

    def choice(self) -> tuple[object, ...]:
        """What was given to select files."""
        return self.plan.descriptor.calibration, self.plan.options.num_cal_images, self.plan.settings.data_root

    def watched(self) -> list[Path]:
        """The samples and the folders that they were chosen from."""
        return [*self.chosen.folders, *self.chosen.files()]

    def run(self, store: "Store", folder: Path, report: Progress) -> None:
        """Run the stage into an empty folder."""
        from axforge.axruntime.pipeline.calibration import stand_ins  # loads msgspec
        from axforge.tasks.stages.samples import Feeds  # loads msgspec

        if stand_ins(self.chosen.items):
            count, name = len(self.chosen.items), self.plan.model.name
            fix = 'for the best accuracy name your own: "calibration": {"path": "FOLDER"} in model.json, below the data root.'
            self.plan.channel.say(f"{name}: calibrating on {count} sample photos that installed packages ship; {fix}")
        feeds = Feeds(self.plan.descriptor, self.chosen, self.chosen.names(store), self.artefacts["checked.onnx"])
        self.stage.run()(self.artefacts, self.config(), folder, report, samples=feeds)


class QuantizeInputs(StageInputs):
    """The configuration of quantize, with the effort that was asked for."""

    def config(self) -> Any:
        """The configuration, with what the plan gives."""
        given = self.plan.options.effort
        return replace(super().config(), effort=given) if given else super().config()

    def remarks(self) -> list[str]:
        """Which ranges were chosen, and which outputs lose suspiciously much."""
        report = json.loads(self.plan.outputs(self.stage)["quantization.json"].read_bytes())
        return [sentence for sentence in (report.get("summary", ""), *report.get("warnings", ())) if sentence]


class TileInputs(StageInputs):
    """The number of cores, and the AIPU's description, which is content too."""

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that are inputs of this stage. Raises AxforgeError when one is not there."""
        target = self.plan.target
        if not target.is_file():
            raise AxforgeError("The target does not exist.", where=str(target), fix="Name a file in axcompiler/targets, such as metis.")
        return {"target": target}

    def config(self) -> Any:
        """The configuration, with what the plan gives."""
        return replace(super().config(), cores=self.plan.cores)

    def named_config(self) -> Mapping[str, object]:
        """The configuration as it enters the key."""
        return {**super().named_config(), "target": self.plan.target.stem}  # its content is an input

    def choice(self) -> tuple[object, ...]:
        """What was given to select files."""
        return (self.plan.target,)


class PackInputs(StageInputs):
    """The name that is written into the file."""

    def config(self) -> Any:
        """The configuration, with what the plan gives."""
        return replace(super().config(), name=self.plan.model.name)

    def set_edits_aside(self, store: "Store", action: "Action") -> None:
        """Keep edits of the compiled files."""
        from axforge.tasks.stages.edits import COMPILED, set_aside  # a build with nothing to do writes nothing

        set_aside(self.plan, COMPILED, lambda: [output.sha256 for output in record.outputs] if (record := store.lookup(action)) else [])


_PARTICULAR: Mapping[str, type[StageInputs]] = {
    "fetch": FetchInputs,
    "check": CheckInputs,
    "calibrate": CalibrateInputs,
    "quantize": QuantizeInputs,
    "tile": TileInputs,
    "pack": PackInputs,
}


def inputs_of(plan: BuildPlan, stage: Stage) -> StageInputs:
    """The inputs of a stage of a model, with its sources as they are now."""
    return _PARTICULAR.get(stage.name, StageInputs)(plan, stage)


def chosen_samples(plan: BuildPlan) -> "Chosen":
    """The samples that a model is calibrated with. Raises AxforgeError when there are none."""
    from axforge.tasks.stages.samples import Chosen, choose  # loads msgspec

    if plan.samples is not None:
        return Chosen(plan.samples, ())
    return choose(plan.descriptor, plan.settings.data_root, plan.options.num_cal_images)
