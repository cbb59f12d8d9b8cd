"""Files that appear whole or not at all, and survive a power cut once they have appeared."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from axforge.cache.digest import Hasher, open_regular, read_into

#: Not enough room, in its several names (a quota, a file-size limit).
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What a link answers where it is not possible: other file system, too many links, somebody else's file, not supported.
_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY})
_FICLONE = 0x40049409
READ_ONLY = 0o444


def host() -> str:
    """Name of this machine, as used in file names."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in os.uname().nodename) or "host"


def unique_name() -> str:
    """A file name that no other process or thread uses."""
    return f"{host()}-{os.getpid()}-{time.monotonic_ns():x}-{os.urandom(4).hex()}"


def sweep(folder: Path) -> None:
    """Remove unfinished files and folders (".<name>.<unique name>") that processes of this host left in a folder when they were killed."""
    mine = f".{host()}-"
    for name in os.listdir(folder):
        _, found, rest = name.partition(mine)
        process = rest.partition("-")[0]
        if name.startswith(".") and found and process.isdigit() and not _is_alive(int(process)):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that cannot sync a folder need not
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path, durable: bool) -> None:
    """Make a folder and those above it, durably when asked to."""
    if folder.is_dir():
        return
    make_folder(folder.parent, durable)
    folder.mkdir(exist_ok=True)
    if durable:
        sync_folder(folder.parent)


@contextmanager
def written(target: Path, temporary: Path, *, durable: bool, mode: int = READ_ONLY) -> Iterator[Path]:
    """Yields a path to fill; afterwards it is synced, given `mode` and renamed to `target`. On any failure nothing remains of it."""
    try:
        yield temporary
        os.chmod(temporary, mode)
        if durable:
            handle = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(target.parent)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """os.write until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_bytes(path: Path, data: bytes) -> None:
    """A new file with these bytes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(handle, data)
    finally:
        os.close(handle)


def copy_hashing(source: Path, target: Path, hasher: Hasher) -> None:
    """Copy to a new file `target`, feeding `hasher` with the bytes that were written."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open_regular(source) as stream:
            read_into(stream, hasher, lambda piece: write_all(handle, piece))
    finally:
        os.close(handle)


def _reflink(source: Path, target: Path) -> None:
    with open_regular(source) as stream:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.ioctl(handle, _FICLONE, stream.fileno())
        except OSError:
            target.unlink()
            raise
        finally:
            os.close(handle)


def _hard_link(source: Path, target: Path) -> None:
    os.link(source, target)


def share(source: Path, target: Path, *, hard: bool) -> str:
    """Let `target` (new) have the content of `source` without copying: "reflink", or "link" if `hard`; "" where neither is possible."""
    ways: list[tuple[str, Callable[[Path, Path], None]]] = [("reflink", _reflink)]
    if hard:
        ways.append(("link", _hard_link))
    for name, way in ways:
        try:
            way(source, target)
            return name
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
    return ""
