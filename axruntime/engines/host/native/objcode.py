"""Native code as one position-independent block of bytes: linked from LLVM's object file, kept in a file, mapped and called.

LinkedCode refers only to itself (every address it works on is an argument), so linking means laying the sections of the object one after
the other and resolving relative addresses between them. The block then runs wherever it is mapped on a page border, and later loads
need no LLVM.
"""

import ctypes
import hashlib
import mmap
import struct
from collections.abc import Callable, Sequence

import msgspec

from axforge.axcompiler.errors import AxforgeError

MAGIC = b"AXNATIV2"
_ALLOC, _RELA, _SYMTAB, _NOBITS = 2, 4, 2, 8
_X86_64, _AARCH64 = 62, 183
PAGE = 4096


class LinkError(Exception):
    """The object file uses something this linker does not know; the message says what."""


class LinkedCode(msgspec.Struct, frozen=True):
    """Linked code: the bytes, and the offset of each symbol in the order it was asked for."""

    block: bytes
    offsets: tuple[int, ...]

    def to_bytes(self, key: str) -> bytes:
        """For a file: magic, digest of `key` and the rest, offsets, block."""
        body = struct.pack(f"<I{len(self.offsets)}q", len(self.offsets), *self.offsets) + self.block
        return MAGIC + _digest(key, body) + body


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32, key=hashlib.blake2b(key.encode(), digest_size=32).digest()).digest()


def from_bytes(data: bytes, key: str, symbols: int) -> LinkedCode | None:
    """Reads `LinkedCode.to_bytes`.

    None if the bytes are damaged, of another version, kept for another key, or do not have `symbols` offsets inside the block (the caller
    compiles again).
    """
    head = 44 + 8 * symbols
    if data[:8] != MAGIC or len(data) < head or _digest(key, data[40:]) != data[8:40]:
        return None
    count, *offsets = struct.unpack_from(f"<I{symbols}q", data, 40)
    block = data[head:]
    return LinkedCode(block, tuple(offsets)) if count == symbols and all(0 <= o < len(block) for o in offsets) else None


class _Section(msgspec.Struct, frozen=True):
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


def link(elf: bytes, symbols: Sequence[str]) -> LinkedCode:
    """Links a 64-bit little-endian relocatable ELF object."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise LinkError("not a 64-bit little-endian ELF object")
    (machine,) = struct.unpack_from("<H", elf, 18)
    sections = _sections(elf)
    at: dict[int, int] = {}
    block = bytearray()
    for i, s in enumerate(sections):
        if s.flags & _ALLOC and s.size and not s.name.startswith((".eh_frame", ".note")):
            block += b"\0" * (-len(block) % max(s.align, 1))
            at[i] = len(block)
            block += bytes(s.size) if s.type == _NOBITS else elf[s.offset : s.offset + s.size]
    names, values = _symbols(elf, sections, at)
    for s in sections:
        if s.type == _RELA and s.info in at:
            for k in range(s.offset, s.offset + s.size, 24):
                place, info, addend = struct.unpack_from("<QQq", elf, k)
                target = values.get(info >> 32)
                if target is None:
                    raise LinkError(f"a kernel refers to the outside symbol '{names[info >> 32]}'")
                _relocate(block, machine, info & 0xFFFFFFFF, at[s.info] + place, target + addend)
    found = {n: values[i] for i, n in names.items() if i in values}
    return LinkedCode(bytes(block), tuple(found[s] for s in symbols))


def _sections(elf: bytes) -> list[_Section]:
    (start,) = struct.unpack_from("<Q", elf, 40)
    size, count, strings = struct.unpack_from("<HHH", elf, 58)
    raw = [struct.unpack_from("<IIQQQQIIQQ", elf, start + i * size) for i in range(count)]
    base = raw[strings][4]

    def name(offset: int) -> str:
        return elf[base + offset : elf.index(b"\0", base + offset)].decode()

    return [_Section(name(r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8]) for r in raw]


def _symbols(elf: bytes, sections: Sequence[_Section], at: dict[int, int]) -> tuple[dict[int, str], dict[int, int]]:
    """Names of all symbols and positions of the defined ones, by number."""
    names: dict[int, str] = {}
    values: dict[int, int] = {}
    for s in sections:
        if s.type != _SYMTAB:
            continue
        base = sections[s.link].offset
        for i in range(s.size // 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", elf, s.offset + 24 * i)
            names[i] = elf[base + name : elf.index(b"\0", base + name)].decode()
            if section in at:
                values[i] = at[section] + value
    return names, values


def _relocate(block: bytearray, machine: int, kind: int, place: int, value: int) -> None:
    """R_X86_64_PC32, PLT32; R_AARCH64_ADR_PREL_PG_HI21, ADD_ABS_LO12_NC, LDST*_LO12_NC, JUMP26, CALL26, PREL32."""
    if machine == _X86_64 and kind in (2, 4):
        struct.pack_into("<i", block, place, value - place)
        return
    if machine == _AARCH64:
        (word,) = struct.unpack_from("<I", block, place)
        shifts = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
        if kind == 275:
            pages = (value >> 12) - (place >> 12)
            word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        elif kind in shifts:
            word |= ((value & 0xFFF) >> shifts[kind]) << 10
        elif kind in (282, 283):
            word |= (value - place >> 2) & 0x3FFFFFF
        elif kind == 261:
            word = (value - place) & 0xFFFFFFFF
        else:
            raise LinkError(f"relocation {kind} of aarch64 is not known")
        struct.pack_into("<I", block, place, word)
        return
    raise LinkError(f"relocation {kind} of machine {machine} is not known")


class Mapped:
    """LinkedCode in executable memory."""

    def __init__(self, code: LinkedCode) -> None:
        size = -(-max(len(code.block), 1) // PAGE) * PAGE
        self._memory = mmap.mmap(-1, size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._memory.write(code.block)
        anchor = ctypes.c_char.from_buffer(self._memory)
        base = ctypes.addressof(anchor)
        del anchor
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(base, size, 5) != 0:
            raise AxforgeError(
                f"this system does not let a program make native code executable (errno {ctypes.get_errno()})",
                where="aipu-host",
                fix="Allow executable memory for this process, or use another engine: --pipe sim.",
            )
        self.addresses = tuple(base + o for o in code.offsets)

    def function(self, index: int, *types: object) -> Callable[..., object]:
        """Symbol `index` as a C function without result."""
        return ctypes.CFUNCTYPE(None, *types)(self.addresses[index])  # type: ignore[arg-type]
