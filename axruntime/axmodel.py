"""Reads an `.axmodel` and verifies all of it: nothing in the file is run, and nothing is used before it was checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from axforge.axcompiler import container, graphfile, target
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axcompiler.ir import Graph, Quant
from axforge.axcompiler.program import AXMODEL_MAGIC, AXMODEL_SECTIONS, AXMODEL_VERSIONS, Port, Program, ProgramHeader, decode

FIX = "Compile the model again, or copy the file again from where it came from."


class PortMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output in the section `meta`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None


class Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `meta`."""

    name: str
    sdk_version: str
    target: str
    cores: int
    inputs: tuple[PortMeta, ...]
    outputs: tuple[PortMeta, ...]
    provenance: dict[str, str]


@dataclass(frozen=True)
class AxModel:
    """A sound `.axmodel`. Weights are read-only views of the mapped file."""

    path: Path
    meta: Meta
    graph: Graph
    _sections: Mapping[str, Buffer]

    @staticmethod
    def open(path: Path | str, *, program: bool = True) -> "AxModel":
        """The model at `path`. program: check the AIPU program too (an engine that does not run it may leave that out).

        Raises FormatError, one sentence that says what is wrong with the file.
        """
        model = AxModel.of(container.mapped(Path(path)), Path(path))
        return model.checked() if program else model

    @staticmethod
    def of(data: Buffer, path: Path) -> "AxModel":
        """The model in `data`, its AIPU program not yet checked. path: where it is from, for messages. Raises FormatError."""
        sections = container.decode(data, AXMODEL_MAGIC, AXMODEL_VERSIONS, where=str(path), kind=".axmodel")
        if tuple(sorted(sections)) != tuple(sorted(AXMODEL_SECTIONS)):
            raise FormatError("required sections of the file are missing, or there are others", where=str(path), fix=FIX)
        try:
            meta = msgspec.json.decode(sections["meta"], type=Meta)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise FormatError(f"the section 'meta' cannot be understood: {e}", where=str(path), fix=FIX) from e
        model = AxModel(path, meta, graphfile.from_sections(sections, where=str(path)), sections)
        model._agrees()
        return model

    def checked(self) -> "AxModel":
        """The same model, its schedule and its AIPU program checked too. Raises FormatError."""
        self.schedule  # noqa: B018 - reads and checks it
        self.program  # noqa: B018
        return self

    def _agrees(self) -> None:
        for ports, names in ((self.meta.inputs, self.graph.inputs), (self.meta.outputs, self.graph.outputs)):
            stated = [(p.name, p.shape, p.dtype, p.quant) for p in ports]
            real = [(n, t.shape, t.dtype, t.quant) for n, t in ((n, self.graph.tensors[n]) for n in names)]
            if stated != real:
                raise FormatError("the section 'meta' describes another graph", where=str(self.path), fix=FIX)

    @cached_property
    def target(self) -> target.Target:
        """The AIPU it was compiled for: the one of that name that comes with axforge, else as the section `schedule` describes it."""
        if self.meta.target in target.names():
            return target.load(self.meta.target)
        try:
            own = target.build(self.schedule.get("target"), where=f"{self.path}, section 'schedule'")
        except AxforgeError as e:
            raise FormatError(
                f"it is for the AIPU '{self.meta.target}', which this axforge does not know", where=str(self.path), fix=FIX
            ) from e
        if own.name != self.meta.target:
            raise FormatError("the section 'schedule' is for another AIPU than the file says", where=str(self.path), fix=FIX)
        return own

    @cached_property
    def _unchecked(self) -> Program:
        return decode(self._sections["program"], where=f"{self.path}, section 'program'")

    @property
    def header(self) -> ProgramHeader:
        """The header of the AIPU program. Unlike `program`, it is not checked against graph and target."""
        return self._unchecked.header

    @cached_property
    def program(self) -> Program:
        """The AIPU program, checked against graph and target."""
        from axforge.axruntime.program_check import ProgramError, check  # start-up: the host engine does not need the program

        program = self._unchecked
        if (program.header.cores, program.header.target) != (self.meta.cores, self.meta.target):
            raise FormatError("the program is for another AIPU than the file says", where=str(self.path), fix=FIX)
        try:
            check(program, self.graph, self.target)
        except ProgramError as e:
            raise FormatError(f"the program is unsound: {e}", where=str(self.path), fix=FIX) from e
        return program

    @cached_property
    def schedule(self) -> dict[str, object]:
        """schedule.json, as it was packed."""
        try:
            value = msgspec.json.decode(self._sections["schedule"], type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise FormatError(f"the section 'schedule' cannot be understood: {e}", where=str(self.path), fix=FIX) from e
        return value

    @property
    def ports(self) -> Mapping[str, Port]:
        """Padded NHWC buffers of the tensors that the host writes or reads, by name."""
        return self.program.header.ports

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each section."""
        return {name: len(self._sections[name]) for name in AXMODEL_SECTIONS}
