"""Locks that the kernel takes back when their holder dies, however it dies.

A file system without locks (some network ones), or a cache that may only be read, gives no lock: work may then be done twice,
which is safe because everything is named by content and put in place by a rename.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where there are no locks, or somebody has put a link in the place of one (ELOOP); what it leads to is not touched.
_NO_LOCKS = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ELOOP}
)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise


def _same(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


def _flock(handle: int, how: int) -> bool:
    """False if somebody else has it; OSError where locks do not exist."""
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    return True


def acquire(path: Path, *, shared: bool = False, wait: bool = True, waiting: Callable[[], None] | None = None) -> int | None:
    """A handle that holds the lock until closed; None if `wait` is False and somebody has it, or where locks do not exist.

    `waiting` is called once before waiting.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while (handle := _open(path)) is not None:
        try:
            got = _flock(handle, how | fcntl.LOCK_NB)
            if not got and wait:
                if waiting is not None:
                    waiting()
                    waiting = None
                got = _flock(handle, how)
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                return None
            raise
        if got and _same(handle, path):  # else it was cleaned away between open and lock
            return handle
        os.close(handle)
        if not got:
            return None
    return None


@contextmanager
def held(path: Path, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock while inside; without it where locks do not exist."""
    handle = acquire(path, shared=shared, waiting=waiting)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a living process holds the (exclusive) lock at `path`. Where locks do not exist: True, to be on the safe side."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
