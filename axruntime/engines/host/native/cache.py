"""The code cache: linked native code by what it was made from."""

import hashlib
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import msgspec

from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.params import Kernel
from axforge.axruntime.engines.host.native.objcode import LinkedCode, from_bytes


@cache
def engine_version() -> str:
    """Digest of the sources that decide machine code: a changed kernel never meets code of the old one."""
    codegen, native = Path(__file__).parents[1] / "codegen", Path(__file__).parent
    h = hashlib.blake2b(digest_size=20)
    for path in (*sorted(codegen.rglob("*.py")), native / "compile.py", native / "objcode.py"):
        h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()


class ObjectCache(Protocol):
    """Where native code is kept between runs. A value is only ever what was put under its key."""

    def get(self, key: str) -> bytes | None:
        """Returns the bytes kept under `key`, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keeps `data` under `key`, or does nothing where that is impossible."""
        ...


class FolderCache:
    """Files in one folder, written beside and renamed. A folder that cannot be written is not an error: code is compiled again.

    What is read is run, so only a file that this user wrote, and that nobody else can write, is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        """Returns the content of the file `key`, or None if there is none that may be trusted."""
        try:
            with (self.folder / key).open("rb") as f:
                status = os.fstat(f.fileno())
                return f.read() if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else None
        except OSError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Writes the file `key`; a reader meets the whole of it or nothing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            import tempfile  # start-up: it loads a lot, and code is rarely new

            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as f:
                    f.write(data)
                Path(name).replace(self.folder / key)
            except OSError:
                Path(name).unlink(missing_ok=True)
        except OSError:
            return


def default_cache() -> FolderCache:
    """`native/` under AXFORGE_CACHE_DIR, else under the user's cache folder."""
    own = os.environ.get("AXFORGE_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(user) if user else Path.home() / ".cache") / "axforge"
    return FolderCache(root / "native")


def code_key(kernels: Sequence[Kernel], isa: Isa) -> str:
    """Everything the machine code depends on: kernels, path, engine, instruction set. (LLVM's version changes speed only.)"""
    parts = (engine_version(), isa.name, isa.features, platform.machine(), [(kernel.family, kernel) for kernel in kernels])
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=20).hexdigest()


def load(kernels: Sequence[Kernel], isa: Isa, store: ObjectCache) -> LinkedCode:
    """LinkedCode of the kernels in order, then of the driver; from the cache, or compiled and put there."""
    key = code_key(kernels, isa)
    data = store.get(key)
    code = from_bytes(data) if data is not None else None
    if code is None:
        from axforge.axruntime.engines.host.native.compile import build

        code = build(kernels, isa)
        store.put(key, code.to_bytes())
    return code
