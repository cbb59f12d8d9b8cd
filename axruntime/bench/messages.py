"""What the measuring process and the process of an engine say to each other: one line of JSON for each message. Light to import."""

import msgspec

from axforge.axruntime.bench.document import WarmUp


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all messages are."""


class Load(Message, frozen=True, kw_only=True):
    """To the engine, first: load `file` and warm up. shapes: of inputs whose shape the file leaves free, by name."""

    engine: str
    file: str
    threads: int
    seed: int
    shapes: dict[str, tuple[int, ...]] = {}


class RunRound(Message, frozen=True, kw_only=True):
    """To the engine: run frames for so long."""

    seconds: float


class Loaded(Message, frozen=True, kw_only=True):
    """From the engine: it is ready. shapes: of its inputs as it feeds them."""

    version: str
    threads: int
    code_path: str
    features: tuple[str, ...]
    load_ns: int
    warm_up: WarmUp
    shapes: dict[str, tuple[int, ...]]


class RoundDone(Message, frozen=True, kw_only=True):
    """From the engine: nanoseconds of each frame of the round. memory_bytes: growth of its process so far."""

    nanoseconds: list[int]
    memory_bytes: int | None


class EngineFailed(Message, frozen=True, kw_only=True):
    """From the engine: it cannot; the parts of an AxforgeError."""

    what: str
    where: str = ""
    fix: str = ""


Request = Load | RunRound
Reply = Loaded | RoundDone | EngineFailed
