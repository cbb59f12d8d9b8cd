"""The remote behind the local cache: queried on a miss, written in mode "rw"; responses are always verified, and it is never needed.

An action result is Bazel's; the record itself is one of its files, named `axforge-record`, so that a plain server keeps and
checks all of it. Contents go up first and the action result last. What comes down must hash to its name, and the record to the key.
A remote that is slow, down or sends wrong data costs one warning and a rebuild; after trouble it is left alone for the rest of the run.
"""

from dataclasses import replace
from typing import Protocol

from axforge.cache.blobs import Blobs
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError, Damaged
from axforge.cache.key import Action, document_of, is_hash
from axforge.cache.layout import Layout
from axforge.cache.record import MAX_RECORD, Blob, Record, parse
from axforge.cache.remote.base import Remote, RemoteError, Sink
from axforge.cache.remote.protobuf import action_result, output_files

RECORD_FILE = "axforge-record"
_MAX_RESULT = 4 << 20
#: So many small troubles (a wrong hash, an answer 500) and it is left alone.
_PATIENCE = 3


class Local(Protocol):
    """What a tier needs of the local store."""

    layout: Layout
    blobs: Blobs

    def write_record(self, record: Record) -> None:
        """Put a record in place, whose contents are all there."""

    def accepts(self, record: Record, source: str) -> bool:
        """Whether a record may be used; where not, the user is told."""

    def warn(self, sentence: str) -> None:
        """Tell the user something that did not stop the work."""


class Tier:
    """A remote in mode "ro" or "rw"."""

    def __init__(self, remote: Remote, mode: str) -> None:
        self._remote, self._mode = remote, mode
        self._trouble = 0

    def describe(self) -> str:
        """For people; without credentials."""
        return f"{self._remote.describe()} ({'read and write' if self._mode == 'rw' else 'read only'})"

    @property
    def usable(self) -> bool:
        """Whether it is still asked in this run."""
        return self._trouble < _PATIENCE

    def fetch(self, store: Local, action: Action) -> Record | None:
        """The record of an action, with all its contents brought to the local store; None on a miss or any trouble."""
        if not self.usable:
            return None
        key = action.key()
        try:
            record = self._record(key)
            if record is None or not store.accepts(record, f"the remote cache {self._remote.describe()}"):
                return None
            weak = {output.sha256: output.xxh3 for output in record.outputs}
            for blob in dict.fromkeys(record.contents()):
                if not store.blobs.has(blob) and not self._blob(store, blob, weak[blob.sha256]):
                    return None
            for blob in dict.fromkeys(record.extras()):
                if not store.blobs.has(blob):
                    self._blob(store, blob, None)  # what only explains may be missing
            record = replace(record, provenance={**record.provenance, "from": self._remote.describe()})
            store.write_record(record)
            return record
        except RemoteError as error:
            self._note(store, error)
        except CacheError as error:
            self._note(store, RemoteError(f"sent a record that is not used: {error.what}", grave=False))
        except OSError as error:
            store.warn(f"What the remote cache sent could not be stored ({error.strerror}); the stage runs again.")
        return None

    def peek(self, store: Local, key: str) -> Record | None:
        """The record of a key, without its contents, which are not stored; None on a miss or any trouble."""
        try:
            return self._record(key) if self.usable else None
        except RemoteError as error:
            self._note(store, error)
        except CacheError as error:
            self._note(store, RemoteError(f"sent a record that is not used: {error.what}", grave=False))
        return None

    def fetch_blob(self, store: Local, blob: Blob) -> bool:
        """Bring one content to the local store; whether it is there now."""
        try:
            return self.usable and self._blob(store, blob, None)
        except RemoteError as error:
            self._note(store, error)
        except OSError as error:
            store.warn(f"What the remote cache sent could not be stored ({error.strerror}).")
        return False

    def push(self, store: Local, record: Record) -> None:
        """Send a record and its contents, in mode "rw"."""
        if self._mode != "rw" or not self.usable:
            return
        try:
            for blob in dict.fromkeys(record.blobs()):
                if not self._remote.has("cas", blob.sha256):
                    self._remote.put("cas", blob.sha256, store.layout.blob(blob.sha256))
            document, data = document_of(record.action), record.to_bytes()
            for name, content in ((record.key, document), (sha256(data), data)):
                if not self._remote.has("cas", name):
                    self._remote.put("cas", name, content)
            self._remote.put("ac", record.key, _action_result(record, data))
        except RemoteError as error:
            self._note(store, error)
        except OSError as error:
            store.warn(f"A result could not be sent to the remote cache ({error.strerror}).")

    def _note(self, store: Local, error: RemoteError) -> None:
        self._trouble += _PATIENCE if error.grave else 1
        rest = "" if self.usable else "; it is not used for the rest of this run"
        store.warn(f"The remote cache {self._remote.describe()} {error}{rest}.")

    def _record(self, key: str) -> Record | None:
        data = self._small("ac", key, _MAX_RESULT)
        if data is None:
            return None
        blob = _record_blob(data)
        content = self._small("cas", blob.sha256, blob.size)
        if content is None:
            return None  # the server has dropped it: an ordinary miss
        if sha256(content) != blob.sha256:
            raise RemoteError(f"sent other bytes than those of {blob.sha256[:12]}…", grave=False)
        return parse(content, key)

    def _small(self, kind: str, name: str, limit: int) -> bytes | None:
        pieces: list[bytes] = []
        return b"".join(pieces) if self._remote.get(kind, name, limit, pieces.append) else None

    def _blob(self, store: Local, blob: Blob, xxh3: str | None) -> bool:
        """Download to the local store; False if the remote does not have it. RemoteError if what it sends is not what was asked for."""
        there = False

        def feed(sink: Sink) -> None:
            nonlocal there
            there = self._remote.get("cas", blob.sha256, blob.size, sink)

        try:
            store.blobs.receive(blob, feed, xxh3)
        except Damaged as error:
            if not there:
                return False
            raise RemoteError(f"sent other bytes than those of {blob.sha256[:12]}…", grave=False) from error
        return True


def _action_result(record: Record, data: bytes) -> bytes:
    files = [(output.name, Blob(output.sha256, output.size)) for output in record.outputs]
    files += [(f"{RECORD_FILE}-{name}", blob) for name, blob in sorted(record.manifests.items())]
    files.append((RECORD_FILE, Blob(sha256(data), len(data))))
    return action_result(files, record.log)


def _record_blob(data: bytes) -> Blob:
    try:
        blob = dict(output_files(data)).get(RECORD_FILE)
    except ValueError as error:
        raise RemoteError(f"sent a malformed action result ({error})", grave=False) from error
    if blob is None or not is_hash(blob.sha256) or not 0 < blob.size <= MAX_RECORD:
        raise RemoteError("sent an action result without a record of this cache", grave=False)
    return blob
