"""Which machine code this CPU can run.

A path is chosen once at load. `AXFORGE_HOST_CPU` (or the `cpu` argument of the engine) forces one, which is how each path
is tested on one machine; forcing one the CPU cannot run is an error.
"""

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

import msgspec

from axforge.axcompiler.errors import AxforgeError

_AVX2 = ("avx", "avx2", "bmi", "bmi2", "lzcnt", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2")
_AVX512_BASE = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
_AVX512 = (*_AVX512_BASE, "avx512vbmi")


class Isa(msgspec.Struct, frozen=True):
    """One path. dot: how products are summed ('amx', 'vnni512', 'vnni256', 'pair', 'sdot', 'smull', 'plain'); width: vector bits;
    group: how many consecutive products of one output channel are together in packed weights."""

    name: str
    dot: str
    width: int
    group: int
    flags: frozenset[str]
    features: tuple[str, ...] = ()

    @property
    def llvm_features(self) -> str:
        """The CPU features that LLVM may use, as it takes them: '+avx,+avx2'."""
        return ",".join(f"+{f}" for f in self.features)

    @property
    def arm(self) -> bool:
        """Vector instructions of aarch64."""
        return "neon" in self.features

    @property
    def x86(self) -> bool:
        """Vector instructions of x86-64."""
        return "avx2" in self.features

    @property
    def offset(self) -> int:
        """What the product kernels take off the bytes of activations: 128 where the instructions want them signed."""
        return 128 if self.arm else 0

    @property
    def vector_constraint(self) -> str:
        """What inline assembler calls a vector register."""
        return "w" if self.arm else "x"

    @property
    def avx512(self) -> bool:
        """AVX-512 with VNNI."""
        return self.width == 512

    @property
    def avx2(self) -> bool:
        """AVX2 and nothing wider."""
        return self.width == 256

    @property
    def vbmi(self) -> bool:
        """Byte permutations across a whole register, which tables want."""
        return "avx512vbmi" in self.features


_F256 = frozenset({"avx2", "bmi1", "bmi2", "abm", "popcnt"})
_F512 = _F256 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi"}
PATHS = (
    Isa("amx", "amx", 512, 64, _F512 | {"amx_tile", "amx_int8"}, (*_AVX512, "amx-tile", "amx-int8")),
    Isa("avx512vnni", "vnni512", 512, 4, _F512, _AVX512),
    Isa("avx512vnni-base", "vnni512", 512, 4, _F512 - {"avx512vbmi"}, _AVX512_BASE),
    Isa("avxvnni", "vnni256", 256, 4, _F256 | {"avx_vnni"}, (*_AVX2, "avxvnni")),
    Isa("avx2", "pair", 256, 4, _F256, _AVX2),
    Isa("dotprod", "sdot", 128, 4, frozenset({"asimd", "asimddp"}), ("neon", "dotprod")),
    Isa("neon", "smull", 128, 8, frozenset({"asimd"}), ("neon",)),
    Isa("generic", "plain", 128, 1, frozenset()),
)


@cache
def cpu_flags() -> frozenset[str]:
    """Feature names of an x86-64 or aarch64 CPU as Linux prints them; empty where they cannot be read, which selects the generic path."""
    if platform.machine() not in ("x86_64", "AMD64", "aarch64"):
        return frozenset()
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@cache
def _amx_permitted() -> bool:
    """Asks Linux for the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); once a process."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(158, 0x1023, 18)) == 0


def usable(isa: Isa) -> bool:
    """Whether this process may run code of that path."""
    return isa.flags <= cpu_flags() and (isa.dot != "amx" or _amx_permitted())


def choose(name: str = "") -> Isa:
    """The path called `name`, or by AXFORGE_HOST_CPU, or the best this CPU has."""
    wanted = name or os.environ.get("AXFORGE_HOST_CPU", "")
    if not wanted:
        return next(isa for isa in PATHS if usable(isa))
    for isa in PATHS:
        if isa.name == wanted:
            if not usable(isa):
                raise AxforgeError(f"this CPU cannot run the '{wanted}' code path", fix="Unset AXFORGE_HOST_CPU.")
            return isa
    raise AxforgeError(f"there is no code path '{wanted}'", fix=f"AXFORGE_HOST_CPU may be {', '.join(i.name for i in PATHS)}.")
