"""The AIPU's program: fixed-width instruction records, one stream for each core, and the tables they index.

A program is data. `decode` reads it and checks its form; `axruntime/program_check` checks the rest before anything runs
(indices, shapes, memory, liveness, synchronisation). `isa.py` is the table of instructions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler import container
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.target import Target

MAGIC = b"AXPROG\0\0"
VERSION = 1
#: of an `.axmodel`: a container with the sections meta, graph, weights, islands, program and schedule
AXMODEL_MAGIC = b"AXMODEL\0"
AXMODEL_VERSIONS = range(1, 2)
AXMODEL_SECTIONS = ("meta", "graph", "weights", "islands", "program", "schedule")
NONE = 0xFFFFFFFF
MAX_RANK = 8
MAX_CORES = 16


class Space(IntEnum):
    """The memory of a buffer. CONST is the read-only part of DDR: parameters and weights."""

    CONST = 0
    DDR = 1
    L2 = 2
    L1 = 3


class Kind(IntEnum):
    """Element type of an operand."""

    INT8 = 0
    INT32 = 1
    FLOAT32 = 2


INSTRUCTION = np.dtype(
    [
        ("op", "u1"),
        ("flags", "u1"),
        ("zero", "u2"),
        ("layer", "<u4"),
        ("out", "<u4"),
        ("a", "<u4"),
        ("b", "<u4"),
        ("c", "<u4"),
        ("epilogue", "<u4"),
        ("imm", "<i4", 4),
        ("pad", "V20"),
    ]
)
BUFFER = np.dtype(
    [("space", "u1"), ("core", "u1"), ("zero", "u2"), ("first", "<u4"), ("last", "<u4"), ("pad", "V4"), ("offset", "<u8"), ("size", "<u8")]
)
OPERAND = np.dtype(
    [
        ("buffer", "<u4"),
        ("kind", "u1"),
        ("rank", "u1"),
        ("zero", "u2"),
        ("offset", "<i8"),
        ("shape", "<i4", MAX_RANK),
        ("strides", "<i8", MAX_RANK),
        ("pad", "V16"),
    ]
)
EPILOGUE = np.dtype(
    [("zero_point", "<i4"), ("lo", "<i4"), ("hi", "<i4"), ("bias", "<u4"), ("multiplier", "<u4"), ("table", "<u4"), ("pad", "V8")]
)
ITEMSIZE = {Kind.INT8: 1, Kind.INT32: 4, Kind.FLOAT32: 4}
DTYPE: dict[Kind, np.dtype[np.generic]] = {Kind.INT8: np.dtype(np.int8), Kind.INT32: np.dtype("<i4"), Kind.FLOAT32: np.dtype("<f4")}

Records = NDArray[np.void]


class WeightImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph constant in the order in which the array takes it; the loader writes it to CONST at `offset`.

    form: 'conv' int8 [M, C/G, KH, KW] -> [G/fold, KH, KW, channels, M*fold/G], `fold` groups side by side as a block-diagonal
    matrix and `channels` (>= C*fold/G) rows for each tap, zero where there is no weight; 'transposed': the same for the weight of a
    transposed convolution; 'depthwise': [C, 1, KH, KW] -> [KH, KW, C]; 'dense': [M, K] -> [K, M]; 'plain': as it is.
    """

    constant: str
    offset: int
    form: str
    groups: int = 1
    fold: int = 1
    channels: int = 0


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The host's view of a tensor it writes or reads: a dense int8 array `shape` in NHWC order that starts `operand`'s buffer.

    shape: padded, for one frame. pads: 8 numbers in numpy.pad order around the tensor inside it. fill: the code in the padding.
    """

    shape: tuple[int, int, int, int]
    pads: tuple[int, ...]
    fill: int


class ProgramHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON part. places: tensor name -> operand that is the tensor in logical (ONNX) axis order. layers: operator names."""

    target: str
    cores: int
    layers: tuple[str, ...]
    places: dict[str, int]
    ports: dict[str, Port]
    images: tuple[WeightImage, ...]
    const_size: int
    ddr_size: int
    l2_size: int
    l1_size: int


@dataclass(frozen=True)
class Program:
    """streams: one array of INSTRUCTION records for each core. constants: the first bytes of CONST; weight images follow."""

    header: ProgramHeader
    streams: tuple[Records, ...]
    buffers: Records
    operands: Records
    epilogues: Records
    constants: Buffer


def to_bytes(program: Program) -> bytes:
    """The `program.axprogram` artefact."""
    sections: dict[str, Buffer] = {"header": msgspec.json.encode(program.header, order="deterministic")}
    for i, stream in enumerate(program.streams):
        sections[f"core{i}"] = stream.tobytes()
    sections |= {
        "buffers": program.buffers.tobytes(),
        "operands": program.operands.tobytes(),
        "epilogues": program.epilogues.tobytes(),
        "constants": program.constants,
    }
    return container.encode(MAGIC, VERSION, sections)


def decode(data: Buffer, *, where: str) -> Program:
    """The program in `data`, its form checked; a reader checks the rest against a target and a graph."""
    sections = container.decode(data, MAGIC, range(1, VERSION + 1), where=where, kind=".axprogram")
    fix = "Compile the model again."
    try:
        header = msgspec.json.decode(sections.get("header", b""), type=ProgramHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise FormatError(f"the program's header cannot be understood: {e}", where=where, fix=fix) from e
    expected = {"header", "buffers", "operands", "epilogues", "constants", *(f"core{i}" for i in range(min(header.cores, MAX_CORES)))}
    if not 1 <= header.cores <= MAX_CORES or set(sections) != expected:
        raise FormatError("required sections of the program are missing, or there are others", where=where, fix=fix)

    def records(name: str, dtype: np.dtype[np.generic]) -> Records:
        if len(sections[name]) % dtype.itemsize:
            raise FormatError(f"the program's section '{name}' is not a whole number of records", where=where, fix=fix)
        return np.frombuffer(sections[name], dtype)

    return Program(
        header=header,
        streams=tuple(records(f"core{i}", INSTRUCTION) for i in range(header.cores)),
        buffers=records("buffers", BUFFER),
        operands=records("operands", OPERAND),
        epilogues=records("epilogues", EPILOGUE),
        constants=sections["constants"],
    )


# ---------------------------------------------------------------- weights


def weight_image(constants: Mapping[str, Array], image: WeightImage) -> Array:
    """What `image` puts into CONST, as an array. Raises ValueError if it does not fit the constant."""
    value = constants[image.constant]
    if image.form == "plain":
        return np.ascontiguousarray(value)
    if value.dtype != np.int8:
        raise ValueError(f"weight '{image.constant}' is {value.dtype}")
    if image.form == "dense" and value.ndim == 2:
        return np.ascontiguousarray(value.T)
    if image.form == "depthwise" and value.ndim == 4 and value.shape[1] == 1:
        return np.ascontiguousarray(value[:, 0].transpose(1, 2, 0))
    if image.form == "conv" and value.ndim == 4:
        return _fold(value, image)
    if image.form == "transposed" and value.ndim == 4:
        return _fold(as_conv_weight(value, image.groups), image)
    raise ValueError(f"weight '{image.constant}' does not have the shape that form '{image.form}' takes")


def as_conv_weight(weight: Array, groups: int) -> Array:
    """A transposed convolution's weight [C, M/G, KH, KW] as that of a convolution [M, C/G, KH, KW]: flipped, channels swapped."""
    c, mg, kh, kw = weight.shape
    if groups < 1 or c % groups:
        raise ValueError("groups do not divide the channels")
    split = weight.reshape(groups, c // groups, mg, kh, kw)[..., ::-1, ::-1]
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3, 4)).reshape(groups * mg, c // groups, kh, kw)


def _fold(weight: Array, image: WeightImage) -> Array:
    m, cg, kh, kw = weight.shape
    groups, fold, channels = image.groups, image.fold, image.channels
    if min(groups, fold) < 1 or m % groups or groups % fold or not cg * fold <= channels <= 1 << 24:
        raise ValueError(f"weight '{image.constant}' does not fold {fold} of {groups} groups into {channels} channels")
    mg = m // groups
    out = np.zeros((groups // fold, kh, kw, channels, mg * fold), np.int8)
    split = weight.reshape(groups // fold, fold, mg, cg, kh, kw)
    for f in range(fold):
        out[:, :, :, f * cg : (f + 1) * cg, f * mg : (f + 1) * mg] = split[:, f].transpose(0, 3, 4, 2, 1)
    return out


def image_size(shape: tuple[int, ...], image: WeightImage) -> int:
    """Bytes of `weight_image` for an int8 constant of this shape."""
    if image.form not in ("conv", "transposed"):
        return int(np.prod(shape, dtype=np.int64))
    kh, kw = shape[2:]
    m = shape[0] if image.form == "conv" else shape[1] * image.groups
    return image.groups // image.fold * kh * kw * image.channels * (m // image.groups * image.fold)


def const_image(program: Program, constants: Mapping[str, Array]) -> NDArray[np.uint8]:
    """The bytes of CONST: parameters, then every weight in the order the array takes it. Raises ValueError."""
    out = np.zeros(program.header.const_size, np.uint8)
    out[: len(program.constants)] = np.frombuffer(program.constants, np.uint8)
    for image in program.header.images:
        value = weight_image(constants, image).reshape(-1).view(np.uint8)
        if image.offset < len(program.constants) or image.offset + value.size > out.size:
            raise ValueError(f"weight '{image.constant}' is outside the constants")
        out[image.offset : image.offset + value.size] = value
    return out


def fits(target: Target, header: ProgramHeader) -> str | None:
    """Why the program's memories do not fit `target`, or None."""
    if header.cores > target.cores:
        return f"it is for {header.cores} cores, {target.name} has {target.cores}"
    for name, need, have in (
        ("L1", header.l1_size, target.memories.l1.usable),
        ("L2", header.l2_size, target.memories.l2.usable),
        ("DDR", header.const_size, target.memories.ddr.usable),
        ("DDR", header.ddr_size, target.memories.ddr.usable - header.const_size),
    ):
        if not 0 <= need <= have:
            return f"it needs {need} bytes of {name}, {target.name} has {have}"
    return None
