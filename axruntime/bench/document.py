"""What a measurement says, as one typed document. Light to import."""

import msgspec

#: Grows when a field is removed or changes its meaning; a new field does not count.
VERSION = 1


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of the document are: read-only."""


class Computer(Document, frozen=True, kw_only=True):
    """Where it was measured. cpus: how many this process may use."""

    system: str
    architecture: str
    cpu: str
    cpus: int
    python: str


class WarmUp(Document, frozen=True, kw_only=True):
    """Frames before the measurement. stable: whether frames had stopped getting faster when it ended."""

    frames: int
    seconds: float
    stable: bool


class LatencyFigures(Document, frozen=True, kw_only=True):
    """Milliseconds of a frame: from the call of the engine with an array until it has given its outputs."""

    min_ms: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class EngineFigures(Document, frozen=True, kw_only=True):
    """One engine. code_path: which machine code the host engine chose ('' for others); features: of the CPU that this path needs.

    load_ms: from the file to an engine that is ready to run. memory_bytes: how much the process grew at most by loading and running; None
    where the system does not say. frames_per_second: of one caller, one frame after the other.
    """

    engine: str
    version: str
    file: str
    threads: int
    code_path: str
    features: tuple[str, ...]
    load_ms: float
    memory_bytes: int | None
    warm_up: WarmUp
    rounds: int
    frames: int
    latency: LatencyFigures
    frames_per_second: float


class SpeedRatio(Document, frozen=True, kw_only=True):
    """How many times as fast as `other` the engine is: the other's time divided by its own, for medians and for minima."""

    engine: str
    other: str
    medians: float
    minima: float


class BenchReport(Document, frozen=True, kw_only=True):
    """A whole measurement. seconds: that each engine ran. notes: what was left out, and why, in sentences."""

    model: str
    seconds: float
    seed: int
    computer: Computer
    engines: tuple[EngineFigures, ...]
    ratio: SpeedRatio | None
    notes: tuple[str, ...]
    version: int = VERSION
