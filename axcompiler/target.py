"""The AIPU: its cores, array, memories, units and clock, read from `targets/*.yaml`.

What decides results is fixed by `numerics.py`; a target decides what fits where, and how many cycles it takes.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import msgspec

from axforge.axcompiler.errors import AxforgeError

_FOLDER = Path(__file__).parent / "targets"
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class TargetSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of a target file; a misspelt key is an error."""


class Array(TargetSection, frozen=True, forbid_unknown_fields=True):
    """The in-memory compute array: one rows x columns matrix-vector product takes `cycles_per_vector`."""

    rows: Positive
    columns: Positive
    cycles_per_vector: Positive
    load_bytes_per_cycle: Positive
    read_bytes_per_cycle: Positive
    load_hidden: bool


class Memory(TargetSection, frozen=True, forbid_unknown_fields=True):
    """Sizes in bytes; `reserved`, at the end, belongs to firmware. The simulator holds them all, so 4 GiB are the most."""

    bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    reserved: Natural

    @property
    def usable(self) -> int:
        """Bytes a compiler may plan with."""
        return self.bytes - self.reserved


class Memories(TargetSection, frozen=True, forbid_unknown_fields=True):
    """l1 is per core; l2 and ddr are shared."""

    l1: Memory
    l2: Memory
    ddr: Memory


class Dma(TargetSection, frozen=True, forbid_unknown_fields=True):
    """Bytes per cycle of one core's copy by its slower end, and of all copies together; cycles before the first byte."""

    l1_bytes_per_cycle: Positive
    l2_bytes_per_cycle: Positive
    ddr_bytes_per_cycle: Positive
    l2_total_bytes_per_cycle: Positive
    ddr_total_bytes_per_cycle: Positive
    start_cycles: Natural
    gather_cycles: Natural


class Vector(TargetSection, frozen=True, forbid_unknown_fields=True):
    """Elements per cycle of the vector unit (DPU)."""

    elementwise: Positive
    softmax: Positive
    resize: Positive
    start_cycles: Natural


class Depthwise(TargetSection, frozen=True, forbid_unknown_fields=True):
    """Multiply-adds, or window elements, per cycle of the depthwise and pooling unit (DWPU)."""

    products: Positive
    start_cycles: Natural


class Target(TargetSection, frozen=True, forbid_unknown_fields=True):
    """One AIPU. Frequencies in Hz, sizes in bytes, times in cycles."""

    name: str
    cores: Annotated[int, msgspec.Meta(ge=1, le=16)]
    clock_hz: Positive
    word_bytes: Annotated[int, msgspec.Meta(ge=16, le=4096)]
    array: Array
    memories: Memories
    dma: Dma
    vector: Vector
    depthwise: Depthwise
    issue_cycles: Natural
    sync_cycles: Natural
    pcie_bytes_per_cycle: Positive
    host_cycles: Natural


def names() -> list[str]:
    """Targets that come with the compiler."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def load(name: str) -> Target:
    """The target called `name`, or described by the YAML file at the path `name`. Raises AxforgeError."""
    if name in names():
        return parse((_FOLDER / f"{name}.yaml").read_text(), where=f"target '{name}'")
    path = Path(name)
    if not path.is_file():
        near = get_close_matches(name, names(), 1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise AxforgeError(
            f"there is no target '{name}'", fix=f"{hint}Known targets: {', '.join(names())}; or give the path of a YAML file."
        )
    try:
        return parse(path.read_text(), where=str(path))
    except (OSError, UnicodeDecodeError) as e:
        raise AxforgeError(f"the target cannot be read: {e}", where=str(path)) from e


def parse(text: str, *, where: str) -> Target:
    """The target that YAML `text` describes. Raises AxforgeError that names the wrong key."""
    import yaml  # programs are read by engines too, which need no target and so no YAML

    try:
        return build(yaml.safe_load(text), where=where)
    except yaml.YAMLError as e:
        raise AxforgeError(f"this is not YAML: {' '.join(str(e).split())}", where=where) from e


def build(value: object, *, where: str) -> Target:
    """The target that `value`, as read from YAML or JSON, describes. Raises AxforgeError that names the wrong key."""
    try:
        target = msgspec.convert(value, Target)
    except msgspec.ValidationError as e:
        raise AxforgeError(f"the target is not valid: {e}", where=where, fix="Compare it with axcompiler/targets/metis.yaml.") from e
    for name in ("l1", "l2", "ddr"):
        memory: Memory = getattr(target.memories, name)
        if memory.usable < 4096:
            raise AxforgeError(f"memories.{name}: nothing is left of {memory.bytes} bytes after reserving {memory.reserved}", where=where)
    if target.word_bytes & (target.word_bytes - 1):
        raise AxforgeError(f"word_bytes is {target.word_bytes} and must be a power of two", where=where)
    return target
