"""The code cache: linked native code by what it was made from."""

import contextlib
import hashlib
import os
import platform
import stat
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.params import Kernel
from axforge.axruntime.engines.host.native.objcode import LinkedCode, from_bytes

#: a file of native code is far smaller (10 to 400 KiB)
MAX_BYTES = 64 << 20
#: files that are kept
MAX_FILES = 2000


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

    What is read is run. So the folder is this user's and closed to everybody else (0700), no symbolic link is followed to it or its files,
    and only a regular file of this user that nobody else can write is taken; opening it never waits. `from_bytes` checks its content. A
    folder that somebody else owns or may write is not used, and a RuntimeWarning says so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        """Returns the content of the file `key`, or None if there is none that may be trusted."""
        try:
            with self._opened() as folder, _file(key, folder) as f:
                status = os.fstat(f.fileno())
                own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
                return f.read(status.st_size) if own and status.st_size <= MAX_BYTES else None
        except OSError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Writes the file `key`; a reader meets the whole of it or nothing. The oldest files above `MAX_FILES` are deleted."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            with self._opened() as folder:
                self._write(key, data, folder)
                self._prune(folder)
        except OSError:
            return

    def _write(self, key: str, data: bytes, folder: int) -> None:
        name = f".new-{os.getpid()}-{os.urandom(8).hex()}"
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(data)
            os.replace(name, key, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise

    def _prune(self, folder: int) -> None:
        """Deletes the oldest files above `MAX_FILES`: code of engines of the past, and what killed processes left."""
        found = {name: os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns for name in os.listdir(folder)}
        for name in sorted(found, key=lambda name: (found[name], name))[:-MAX_FILES]:
            os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A handle of the folder, through which its files are reached; OSError if it is not there or may not be trusted."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                sentence = f"native code is not kept in {self.folder}, because others may write there: chmod 700 it, or delete it"
                warnings.warn(sentence, RuntimeWarning, stacklevel=2)
                raise PermissionError(sentence)
            if status.st_mode & 0o077:
                os.fchmod(handle, 0o700)
            yield handle
        finally:
            os.close(handle)


def _file(key: str, folder: int) -> BinaryIO:
    """The file `key`, opened without following a link and without waiting for the writer of a pipe."""
    return os.fdopen(os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder), "rb")


class NoCache:
    """Keeps nothing: for a user without a home."""

    def get(self, key: str) -> bytes | None:
        """Returns None."""

    def put(self, key: str, data: bytes) -> None:
        """Does nothing."""


def default_cache() -> ObjectCache:
    """AXFORGE_NATIVE_DIR, else `axforge-native` in the user's cache folder: never in a cache that people share."""
    own, user = os.environ.get("AXFORGE_NATIVE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return FolderCache(Path(own).absolute())
    try:
        return FolderCache((Path(user).absolute() if user else Path.home() / ".cache") / "axforge-native")
    except RuntimeError:  # the system does not know this user
        return NoCache()


def code_key(kernels: Sequence[Kernel], isa: Isa) -> str:
    """Everything the machine code depends on: kernels, path, engine, instruction set. (LLVM's version changes speed only.)"""
    parts = (engine_version(), isa.name, isa.features, platform.machine(), [(kernel.family, kernel) for kernel in kernels])
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=20).hexdigest()


def load(kernels: Sequence[Kernel], isa: Isa, store: ObjectCache) -> LinkedCode:
    """LinkedCode of the kernels in order, then of the driver; from the cache, or compiled and put there."""
    key = code_key(kernels, isa)
    data = store.get(key)
    code = from_bytes(data, key, len(kernels) + 1) if data is not None else None
    if code is None:
        from axforge.axruntime.engines.host.native.compile import build

        code = build(kernels, isa)
        store.put(key, code.to_bytes(key))
    return code
