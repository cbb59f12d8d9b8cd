"""Digests of files without reading them again: a stat-validated index, private to one user on one host.

An entry counts while size, mtime, ctime, inode and device are what they were. A file that changed within the resolution of its
own time stamps before it was hashed could change again without any of them showing it ("racily clean"), so it gets no entry yet.

    index/<first 32 hex of sha256 of the folder's path>.json    "<crc32> <json>\\n": {"folder", "files": {name: [stat..., xxh3, sha256]}}
    index/note-<name>                                           whatever a client of the cache keeps there (`note`)
    index/content-<first 2 hex of xxh3>                         lines "<xxh3> <size> <sha256> <crc32>": names of content already known
"""

import json
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISDIR

from axforge.cache import digest
from axforge.cache.digest import FileDigest, Stat, file_stat, hash_file
from axforge.cache.disk import unique_name, write_all, write_bytes
from axforge.cache.errors import CacheError

_TICK = 20_000_000  # ns; file systems stamp with a clock of 1 to 10 ms
_COARSE_TICK = 2_100_000_000  # ns; FAT and other file systems stamp whole seconds, FAT every other

Entries = dict[str, tuple[Stat, str, str]]


def _settled(stat: Stat, hashed_at: int) -> bool:
    """Whether any change after `hashed_at` (ns) must show in the stat."""
    tick = _COARSE_TICK if stat[2] % 1_000_000_000 == 0 else _TICK
    return max(stat[1], stat[2]) < hashed_at - tick


class Files:
    """The index in folder `root`; None: hash every time. Losing it costs time and never a result."""

    def __init__(self, root: Path | None) -> None:
        self._root = _private(root)
        self._folders: dict[str, Entries] = {}

    def digest(self, path: str | Path) -> FileDigest:
        """Content of one file. CacheError when it is not a readable regular file or keeps changing."""
        return self.digests([path])[0]

    def digests(self, paths: Iterable[str | Path]) -> list[FileDigest]:
        """Content of many files, in their order; the index is read and written once a folder."""
        found, changed = [], set()
        for path in paths:
            folder, name = os.path.split(os.path.abspath(path))
            entry = self._entries(folder).get(name)
            if entry is not None and entry[0] == file_stat(path):
                found.append(self._known(folder, name, entry))
            else:
                found.append(self._hash(folder, name))
                changed.add(folder)
        for folder in changed:
            self._save(folder)
        return found

    def _known(self, folder: str, name: str, entry: tuple[Stat, str, str]) -> FileDigest:
        stat, weak, strong = entry
        if strong:
            return FileDigest(stat[0], weak, strong)
        return FileDigest(stat[0], weak, self._content_name(weak, stat[0]), lambda: self._name_later(folder, name, weak))

    def _hash(self, folder: str, name: str) -> FileDigest:
        path = os.path.join(folder, name)
        now = time.time_ns()
        result, stat = hash_file(path, strong=file_stat(path)[0] < digest.LAZY_FROM)
        entry = (stat, result.xxh3, result.sha256 if result.named else "")
        if _settled(stat, now):
            self._entries(folder)[name] = entry
        else:
            self._entries(folder).pop(name, None)
        return self._known(folder, name, entry)

    def _name_later(self, folder: str, name: str, weak: str) -> str:
        now = time.time_ns()
        result, stat = hash_file(os.path.join(folder, name))
        if result.xxh3 != weak:
            raise CacheError("changed while it was in use.", where=os.path.join(folder, name), fix="Start again when nobody writes to it.")
        self.learn(result)
        if _settled(stat, now):
            self._entries(folder)[name] = (stat, result.xxh3, result.sha256)
            self._save(folder)
        return result.sha256

    def _entries(self, folder: str) -> Entries:
        if folder not in self._folders:
            self._folders[folder] = self._load(folder)
        return self._folders[folder]

    def _file(self, folder: str) -> Path | None:
        return self._root / f"{digest.sha256(os.fsencode(folder))[:32]}.json" if self._root else None

    def _load(self, folder: str) -> Entries:
        file = self._file(folder)
        try:
            check, _, text = file.read_bytes().partition(b" ") if file else (b"", b"", b"")
            if not file or int(check, 16) != zlib.crc32(text):
                return {}
            data = json.loads(text)
            return {name: (tuple(e[:5]), e[5], e[6]) for name, e in data["files"].items()} if data["folder"] == folder else {}
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return {}  # absent or damaged: hashing again is right, only slower

    def _save(self, folder: str) -> None:
        file = self._file(folder)
        if not file:
            return
        files = {name: [*stat, weak, strong] for name, (stat, weak, strong) in self._folders[folder].items()}
        text = json.dumps({"folder": folder, "files": files}, sort_keys=True).encode()
        temporary = file.with_name(f".{unique_name()}")
        try:
            write_bytes(temporary, b"%08x %s" % (zlib.crc32(text), text))
            os.replace(temporary, file)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _content_file(self, weak: str) -> Path | None:
        return self._root / f"content-{weak[:2]}" if self._root else None

    def _content_name(self, weak: str, size: int) -> str:
        file = self._content_file(weak)
        try:
            lines = file.read_text(encoding="ascii").splitlines() if file else []
        except (OSError, ValueError):
            return ""
        head = f"{weak} {size} "
        for line in lines:
            body, _, check = line.rpartition(" ")
            if body.startswith(head) and check == f"{zlib.crc32(body.encode()):08x}":
                return body.rpartition(" ")[2]
        return ""

    def learn(self, found: FileDigest) -> None:
        """Remember the SHA-256 of a content that was hashed here, so that its xxh3 suffices when it turns up again."""
        file = self._content_file(found.xxh3)
        body = f"{found.xxh3} {found.size} {found.sha256}"
        if file and found.size >= digest.LAZY_FROM and not self._content_name(found.xxh3, found.size):
            try:
                handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    write_all(handle, f"\n{body} {zlib.crc32(body.encode()):08x}\n".encode())
                finally:
                    os.close(handle)
            except OSError:
                return  # the name is asked for again next time

    def note(self, name: str) -> Path | None:
        """A file for what a client of the cache can find out again, but slowly; None where this user has no private folder."""
        return self._root / f"note-{name}" if self._root else None

    def forget_gone(self) -> None:
        """Drop entries of folders that no longer exist."""
        for file in self._root.glob("*.json") if self._root else ():
            try:
                folder = json.loads(file.read_bytes().partition(b" ")[2])["folder"]
            except (OSError, ValueError, KeyError, TypeError):
                folder = ""
            if not os.path.isdir(folder):
                file.unlink(missing_ok=True)


def _private(root: Path | None) -> Path | None:
    """The folder, made for this user alone; None when it cannot be had, or when somebody else could forge entries in it."""
    if root is None:
        return None
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(root)  # a link could lead to a folder of ours that others may write to
        own = S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return root if own and os.access(root, os.R_OK | os.W_OK | os.X_OK) else None
    except OSError:
        return None
