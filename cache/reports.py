"""What the commands of the cache report, as JSON. Sizes are in bytes, times in seconds since 1970, durations in seconds."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict, final

from axforge.cache.key import Json, Scalar


class RecordRow(TypedDict):
    """One record in a list. output, input: the name under which it made or read the content in question."""

    key: str
    model: str
    stage: str
    bytes: int
    used: int
    seconds: Scalar
    output: NotRequired[str]
    input: NotRequired[str]
    last_build: NotRequired[bool]


class StageRow(TypedDict):
    """All records of one stage of one model."""

    model: str
    stage: str
    records: int
    bytes: int
    used: int
    seconds: float


class Hits(TypedDict):
    """Results that were restored, by where they came from."""

    local: int
    remote: int


class Overview(TypedDict):
    """The cache as a whole."""

    root: str
    writable: bool
    records: int
    contents: int
    bytes: int
    size_limit: int | None
    bytes_saved_by_sharing: int
    unreferenced: int
    quarantined: int
    in_use: int
    hits: Hits
    ran: int
    hit_rate: float
    bytes_restored: int
    seconds_saved: float
    remote: str | None
    largest: list[RecordRow]
    oldest: list[RecordRow]
    models: list[StageRow]


class LastBuild(TypedDict):
    """The last build of a stage in one workspace."""

    workspace: str
    stage: str
    key: str
    cached: bool


@final
class ModelReport(TypedDict):
    """The records and last builds of one model."""

    model: str
    records: list[RecordRow]
    last_builds: list[LastBuild]


@final
class ContentReport(TypedDict):
    """One stored content. file: the path that was asked for."""

    content: str
    stored: bool
    bytes: int | None
    made_by: list[RecordRow]
    used_by: list[RecordRow]
    file: NotRequired[str]


class InputReport(TypedDict):
    """One input of a record: a file (sha256), or many (tree, count, and their names as far as they are known)."""

    name: str
    made_by: list[RecordRow]
    sha256: NotRequired[str]
    tree: NotRequired[str]
    count: NotRequired[int]
    files: NotRequired[list[str]]


class OutputReport(TypedDict):
    """One output of a record."""

    name: str
    sha256: str
    bytes: int
    stored: bool
    used_by: list[RecordRow]


@final
class RecordReport(TypedDict):
    """One record, with what it came from and what depends on it."""

    record: str
    stage: str
    stage_version: int
    model: str
    used: int
    provenance: dict[str, Scalar]
    signature: str
    config: Mapping[str, Json]
    sdk: str
    libraries: Mapping[str, str]
    inputs: list[InputReport]
    outputs: list[OutputReport]
    ancestors: list[RecordRow]
    dependents: list[RecordRow]
    log: str | None


class DiffReport(TypedDict):
    """What differs between two records. changes: as `explain` gives them. outputs: names of the files whose content differs."""

    before: str
    after: str
    changes: list[dict[str, object]]
    outputs: list[str]


class ExportReport(TypedDict):
    """What `export` wrote into a bundle. bytes: of the file."""

    file: str
    records: int
    contents: int
    bytes: int


class ImportReport(TypedDict):
    """What `import` found in a bundle. new, bytes: the records that were not here before, and the size of their outputs."""

    file: str
    records: int
    new: int
    bytes: int
    models: list[str]
    dry_run: bool


class CleanReport(TypedDict):
    """What `clean` removed or, in a dry run, would remove. by_model: records by model and stage."""

    records: int
    contents: int
    leftovers: int
    bytes: int
    bytes_left: int
    kept_in_use: int
    dry_run: bool
    by_model: dict[str, dict[str, int]]


class RebuiltRow(TypedDict):
    """A record whose contents are missing."""

    key: str
    stage: str
    label: str


class VerifyReport(TypedDict):
    """What `verify` checked, and the damage that it found."""

    checked: int
    bytes: int
    records: int
    damaged: list[str]
    records_damaged: int
    rebuilt: list[RebuiltRow]
    sound: bool
