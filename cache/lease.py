"""Which keys a living process uses. A lease is a locked file with one key a line; the lock goes with the process."""

import atexit
import os
from pathlib import Path

from axforge.cache.digest import open_regular
from axforge.cache.disk import unique_name, write_all
from axforge.cache.lock import acquire, is_held

_MANY = 64


class Lease:
    """The keys that this process uses, kept from `cache clean` until `close` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None
        self._path: Path | None = None
        self._owner = 0
        self._keys: set[str] = set()

    def add(self, key: str) -> None:
        """Note a key. OSError when the lease cannot be written."""
        if self._owner != os.getpid():  # after a fork the parent's lease is the parent's
            self._owner, self._keys = os.getpid(), set()
            if len(os.listdir(self._folder)) > _MANY:
                leased(self._folder)  # removes those of processes that ended without closing theirs
            self._path = self._folder / unique_name()
            self._handle = acquire(self._path)
        if self._handle is not None and key not in self._keys:
            write_all(self._handle, f"{key}\n".encode())
            self._keys.add(key)

    def close(self) -> None:
        """Give all keys back."""
        if self._owner == os.getpid() and self._handle is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
        self._handle, self._owner = None, 0


_of_this_process: dict[Path, Lease] = {}


def lease_in(folder: Path) -> Lease:
    """The one lease of this process in a folder, however many stores it opens; closed at its end."""
    if folder not in _of_this_process:
        _of_this_process[folder] = Lease(folder)
        atexit.register(_of_this_process[folder].close)
    return _of_this_process[folder]


def leased(folder: Path) -> set[str]:
    """Keys in use by living processes. Leases of the dead are removed."""
    keys: set[str] = set()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_held(path):
            with open_regular(path) as stream:
                keys.update(stream.read().decode("ascii", errors="replace").split())
        else:
            path.unlink(missing_ok=True)
    return keys
