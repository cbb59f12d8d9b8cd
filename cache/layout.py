"""Where things are in the cache folder, and whether it can be written. See docs/cache.md for the grammar.

CACHEDIR.TAG
v1/ac/ab/<key>            records
v1/cas/cd/<sha256>        contents, read-only
v1/tmp/                   not finished; v1/tmp/<name>/ + <name>.lock: work folder of a living process
v1/quarantine/            damaged, with a sentence in <name>.why
v1/locks/<key>            one builder at a time; locks/store: shared while used, exclusive while cleaned
v1/leases/                keys that living processes use
v1/stats/<host>           counters
v1/index/<host>-<uid>/    stat index, last builds and notes of the cache's clients, private
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from axforge.cache.disk import host, make_folder, unique_name

VERSION = "v1"
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of axforge; it may be deleted at any time.\n"
_REFUSED = frozenset({errno.EACCES, errno.EROFS, errno.EPERM})


class Layout:
    """Paths below a cache folder. `writable`: whether it could be set up for writing; `reason` says why not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / VERSION
        self.ac, self.cas, self.tmp, self.quarantine = (self.base / name for name in ("ac", "cas", "tmp", "quarantine"))
        self.locks, self.leases, self.stats = (self.base / name for name in ("locks", "leases", "stats"))
        self.index = self.base / "index" / f"{host()}-{os.geteuid()}"
        self.reason = ""
        self.writable = self._set_up()

    def _set_up(self) -> bool:
        try:
            for folder in (self.ac, self.cas, self.tmp, self.locks, self.leases, self.stats, self.quarantine, self.index.parent):
                make_folder(folder, durable=False)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            tag = self.root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_bytes(_TAG)
        except OSError as error:
            self.reason = error.strerror or str(error)
            return False
        return True

    def record(self, key: str) -> Path:
        """File of a record."""
        return self.ac / key[:2] / key

    def blob(self, sha256: str) -> Path:
        """File of a content."""
        return self.cas / sha256[:2] / sha256

    def temporary(self) -> Path:
        """A new name for an unfinished file."""
        return self.tmp / unique_name()

    def lock(self, name: str) -> Path:
        """The file that is locked for `name`."""
        return self.locks / name


def is_refusal(error: OSError) -> bool:
    """Whether an error says that this place may not be written to."""
    return error.errno in _REFUSED


#: warn(sentence): shows the user a sentence; the same one is shown once.
Warn = Callable[[str], None]
