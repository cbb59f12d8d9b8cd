"""Contents by their SHA-256: put in whole, checked whenever they are handed out, set aside when damaged."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from axforge.cache.digest import FileDigest, Hasher, hash_once, open_regular
from axforge.cache.disk import READ_ONLY, copy_hashing, make_folder, share, unique_name, write_all, write_bytes, written
from axforge.cache.errors import CacheError, Damaged
from axforge.cache.layout import Layout, Warn, is_refusal
from axforge.cache.record import Blob

#: Smaller files are copied: a link would save nothing, and these are the ones people open in editors.
LINK_FROM = 1 << 20

#: Takes a piece of a content on its way into the store.
Sink = Callable[[bytes | memoryview], object]


class Blobs:
    """The contents of one cache. `durable`: survive a power cut. `link`: hand out hard links where there are no reflinks.

    suspicious: somebody may have put contents here that collide under xxh3, so everything is checked by SHA-256, and nothing is linked.
    """

    def __init__(self, layout: Layout, warn: Warn, *, durable: bool = True, link: bool = True, suspicious: bool = False) -> None:
        self._layout, self._warn, self._durable, self._link = layout, warn, durable, link and not suspicious
        self._suspicious = suspicious

    def has(self, blob: Blob) -> bool:
        """Whether content of that name and size is there (not whether it is sound)."""
        try:
            return os.stat(self._layout.blob(blob.sha256)).st_size == blob.size
        except OSError:
            return False

    def keep_file(self, source: Path, content: FileDigest, *, private: bool) -> None:
        """Store a file. `private`: nobody else writes to it, so that it may be linked. OSError when it cannot be written."""
        target = self._layout.blob(content.sha256)
        if self._sound(target, content):
            return
        make_folder(target.parent, self._durable)
        with written(target, self._layout.temporary(), durable=self._durable) as temporary:
            if share(source, temporary, hard=private):
                return
            hasher = Hasher()
            copy_hashing(source, temporary, hasher)
            if hasher.sha256 != content.sha256:
                raise CacheError("changed while it was stored.", where=str(source), fix="Start again when nobody writes to it.")

    def keep_bytes(self, name: str, data: bytes) -> None:
        """Store bytes whose SHA-256 is `name`."""
        target = self._layout.blob(name)
        hasher = Hasher()
        hasher.update(data)
        if not self._sound(target, FileDigest(hasher.size, hasher.xxh3, name)):
            make_folder(target.parent, self._durable)
            with written(target, self._layout.temporary(), durable=self._durable) as temporary:
                write_bytes(temporary, data)

    def receive(self, blob: Blob, feed: Callable[[Sink], object], xxh3: str | None = None) -> None:
        """Store the bytes that `feed` gives its sink. Damaged, and nothing is kept, when they are not those of `blob` and of this xxh3."""
        target, temporary = self._layout.blob(blob.sha256), self._layout.temporary()
        make_folder(target.parent, self._durable)
        hasher = Hasher()
        with written(target, temporary, durable=self._durable):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                feed(lambda piece: _both(hasher, handle, piece))
            finally:
                os.close(handle)
            if (hasher.sha256, hasher.size) != (blob.sha256, blob.size) or (xxh3 is not None and hasher.xxh3 != xxh3):
                raise Damaged("These are other bytes than those that the name says.", where=blob.sha256)

    def is_sound(self, blob: Blob) -> bool:
        """Whether the content is there and its SHA-256 is its name. A damaged one is set aside."""
        path = self._layout.blob(blob.sha256)
        try:
            found = hash_once(path, strong=True)
        except OSError:
            return False
        if (found.sha256, found.size) != (blob.sha256, blob.size):
            self.set_aside(path, "its content is not what its name says")
            return False
        return True

    def _sound(self, target: Path, content: FileDigest) -> bool:
        """Whether the store has this content already, undamaged."""
        try:
            found = hash_once(target, strong=self._suspicious)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.set_aside(target, "it is not a regular file")
            return False
        if (found.size, found.xxh3) == (content.size, content.xxh3) and found.sha256 in ("", content.sha256):
            return True
        self.set_aside(target, "its content is not what its name says")
        return False

    def read(self, blob: Blob, limit: int = 64 << 20) -> bytes:
        """A small content, checked by SHA-256. Damaged when it is missing or not itself."""
        path = self._layout.blob(blob.sha256)
        if blob.size > limit:
            raise Damaged(f"{blob.size} bytes are more than this kind of content may have.", where=str(path))
        try:
            with open_regular(path) as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise Damaged(f"A stored content cannot be read: {error.strerror}.", where=str(path)) from error
        hasher = Hasher()
        hasher.update(data)
        if hasher.sha256 != blob.sha256:
            self.set_aside(path, "its content is not what its name says")
            raise Damaged("A stored content was damaged.", where=str(path))
        return data

    def place(self, blob: Blob, xxh3: str, temporary: Path) -> None:
        """Bring content to the new file `temporary`, read-only, every byte checked. Damaged when it is missing or not itself."""
        path = self._layout.blob(blob.sha256)
        try:
            if not self._place_shared(path, blob, xxh3, temporary):
                hasher = Hasher(strong=self._suspicious)
                copy_hashing(path, temporary, hasher)
                self._check(path, blob, xxh3, hasher)
                os.chmod(temporary, READ_ONLY)
        except FileNotFoundError as error:
            raise Damaged("A stored content is gone.", where=str(path)) from error
        except OSError as error:
            if error.errno in (errno.EIO, errno.EINVAL):
                self.set_aside(path, "the disk cannot read it")
                raise Damaged("A stored content cannot be read.", where=str(path)) from error
            raise

    def _place_shared(self, path: Path, blob: Blob, xxh3: str, temporary: Path) -> bool:
        if blob.size < LINK_FROM or not share(path, temporary, hard=self._link):
            return False
        self._check(path, blob, xxh3, hash_once(temporary, strong=self._suspicious))
        if stat.S_IMODE(os.stat(temporary).st_mode) != READ_ONLY:  # a link to somebody else's file is read-only and cannot be changed
            os.chmod(temporary, READ_ONLY)
        return True

    def _check(self, path: Path, blob: Blob, xxh3: str, found: FileDigest | Hasher) -> None:
        if (found.size, found.xxh3) != (blob.size, xxh3) or found.sha256 not in ("", blob.sha256):
            self.set_aside(path, "its content is not what its name says")
            raise Damaged("A stored content was damaged.", where=str(path))

    def set_aside(self, path: Path, why: str) -> None:
        """Move a damaged file to the quarantine with a sentence and warn. Where that is not allowed it is left in place, with a warning."""
        sentence = f"{path.name[:16]}… in {path.parent.parent.name}/ was damaged ({why})"
        target = self._layout.quarantine / f"{path.parent.parent.name}-{path.name}-{unique_name()}"
        try:
            os.replace(path, target)
        except FileNotFoundError:
            return  # somebody else was faster
        except OSError as error:
            if not is_refusal(error):
                raise
            self._warn(f"{sentence}; it is not used and cannot be set aside, because the cache is read only.")
            return
        self._warn(f"{sentence}; it was set aside in {self._layout.quarantine} and what needs it is built again.")
        try:
            note = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {path}: {why}\n"
            write_bytes(target.with_name(target.name + ".why"), note.encode())
        except OSError as error:
            self._warn(f"No note could be left beside {target.name}: {error.strerror}.")


def _both(hasher: Hasher, handle: int, piece: bytes | memoryview) -> None:
    hasher.update(piece)
    write_all(handle, piece)
