"""What travels between the machines of a cluster: jobs and answers. Files travel through the cache; a job names them by SHA-256."""

import json

import msgspec

from axforge.axruntime.evaluate.evaluate import Measured
from axforge.tasks.project.zoo import Document


class SampleFile(msgspec.Struct, frozen=True):
    """A calibration sample. file: its name among the files of the job. variant: which part of it (see CalibrationItem)."""

    name: str
    variant: str
    file: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What every job says. descriptor: the text of model.json, with its labels. files: SHA-256 by name.

    versions: what must be the same on the worker. topic: where its reports of progress go.
    """

    model: str
    descriptor: str
    files: dict[str, str]
    versions: dict[str, str]
    topic: str = ""

    @property
    def raw(self) -> Document:
        """The descriptor as JSON."""
        document: Document = json.loads(self.descriptor)
        return document


class CompileJob(Job, frozen=True, kw_only=True):
    """Compile a model from check to the stage `last`. force: whatever the cache holds."""

    last: str
    cores: int
    num_cal_images: int
    effort: str
    force: bool
    samples: tuple[SampleFile, ...] = ()


class MeasureJob(Job, frozen=True, kw_only=True):
    """Measure part `part[0]` of `part[1]` of a data set, or of `limit` of its samples. network: the file that the engine `pipe` loads."""

    pipe: str
    network: str
    limit: int | None
    part: tuple[int, int] = (0, 1)


class StageDone(msgspec.Struct, frozen=True):
    """What a worker did of a stage. how: "ran" or "restored"."""

    how: str
    seconds: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer says: which worker gave it."""

    worker: str


class CompileAnswer(Answer, frozen=True, kw_only=True):
    """The stages of a model that are in the cache now."""

    stages: dict[str, StageDone]


class PartMeasured(Answer, frozen=True, kw_only=True):
    """The counts of a part of a data set, from which the figures are made when all parts are there."""

    measured: Measured


class Failed(Answer, frozen=True, kw_only=True):
    """A mistake that a user can fix, as a sentence."""

    error: str
