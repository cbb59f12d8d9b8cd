"""The remote behind the local cache: queried on a miss, written in mode "rw"; responses are always verified, and it is never needed.

An action result is Bazel's; the record itself is one of its files, named `axforge-record`, so that a plain server keeps and
checks all of it. Contents go up first and the action result last. What comes down must hash to its name, and the record to the key.
A remote that is slow, down or sends wrong data costs one warning and a rebuild; after trouble it is left alone for the rest of the run.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from axforge.cache.blobs import Blobs
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError, Damaged
from axforge.cache.key import Action, document_of, is_hash
from axforge.cache.layout import Layout
from axforge.cache.record import MAX_RECORD, Blob, Record, parse
from axforge.cache.remote import chunks
from axforge.cache.remote.base import Remote, RemoteError, Sink
from axforge.cache.remote.protobuf import action_result, output_files

RECORD_FILE = "axforge-record"
CHUNKS_FILE = "axforge-chunks"
_MAX_RESULT = 4 << 20
#: So many small troubles (a wrong hash, an answer 500) and it is left alone.
_PATIENCE = 3


class Local(Protocol):
    """What a tier needs of the local store."""

    layout: Layout
    blobs: Blobs

    def write_record(self, record: Record) -> None:
        """Put a record in place, whose contents are all there."""

    def alike(self, record: Record) -> Iterable[Path]:
        """Files here that may have much in common with the outputs of a record."""

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
            answer = self._answer(key)
            if answer is None or not store.accepts(answer.record, f"the remote cache {self._remote.describe()}"):
                return None
            record = answer.record
            if not self._contents(store, record, self._lists(answer)):
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
            answer = self._answer(key) if self.usable else None
            return answer.record if answer else None
        except RemoteError as error:
            self._note(store, error)
        except CacheError as error:
            self._note(store, RemoteError(f"sent a record that is not used: {error.what}", grave=False))
        return None

    def complete(self, store: Local, record: Record) -> bool:
        """Bring what is missing of a record's contents to the local store; whether all are there now."""
        try:
            if not self.usable:
                return False
            answer = self._answer(record.key)
            return self._contents(store, record, self._lists(answer) if answer else {})
        except RemoteError as error:
            self._note(store, error)
        except CacheError as error:
            self._note(store, RemoteError(f"sent a record that is not used: {error.what}", grave=False))
        except OSError as error:
            store.warn(f"What the remote cache sent could not be stored ({error.strerror}).")
        return False

    def push(self, store: Local, record: Record) -> None:
        """Send a record and its contents, in mode "rw"."""
        if self._mode != "rw" or not self.usable:
            return
        try:
            large = {blob for blob in record.contents() if blob.size >= chunks.LARGE}
            lists = {blob.sha256: self._sent_in_pieces(store, blob) for blob in sorted(large, key=str)}
            for blob in dict.fromkeys(record.blobs()):
                if blob not in large and not self._remote.has("cas", blob.sha256):
                    self._remote.put("cas", blob.sha256, store.layout.blob(blob.sha256))
            self._sent(document_of(record.action))
            files = [(RECORD_FILE, self._sent(record.to_bytes()))]
            if lists:
                files.append((CHUNKS_FILE, self._sent(chunks.encode(lists))))
            self._remote.put("ac", record.key, _action_result(record, files, lists))
        except RemoteError as error:
            self._note(store, error)
        except OSError as error:
            store.warn(f"A result could not be sent to the remote cache ({error.strerror}).")

    def _note(self, store: Local, error: RemoteError) -> None:
        self._trouble += _PATIENCE if error.grave else 1
        rest = "" if self.usable else "; it is not used for the rest of this run"
        store.warn(f"The remote cache {self._remote.describe()} {error}{rest}.")

    def _sent(self, data: bytes) -> Blob:
        """Bytes that are on the remote now."""
        blob = Blob(sha256(data), len(data))
        if not self._remote.has("cas", blob.sha256):
            self._remote.put("cas", blob.sha256, data)
        return blob

    def _sent_in_pieces(self, store: Local, blob: Blob) -> tuple[Blob, ...]:
        whole, sent = hashlib.sha256(), []
        for piece in chunks.pieces(store.layout.blob(blob.sha256)):
            whole.update(piece)
            sent.append(self._sent(piece))
        if whole.hexdigest() != blob.sha256:
            raise RemoteError("is not sent a content that has become damaged here", grave=False)
        return tuple(sent)

    def _answer(self, key: str) -> "_Answer | None":
        """What the remote has for a key, its record checked. RemoteError or CacheError when it is not what it should be."""
        data = self._small("ac", key, _MAX_RESULT)
        if data is None:
            return None
        files = _files(data)
        content = self._checked(files.get(RECORD_FILE), MAX_RECORD)
        return None if content is None else _Answer(parse(content, key), files)

    def _checked(self, blob: Blob | None, limit: int) -> bytes | None:
        """A small content; None if the server has dropped it: an ordinary miss. RemoteError when it is not itself."""
        if blob is None or not is_hash(blob.sha256) or not 0 < blob.size <= limit:
            raise RemoteError("sent an action result without a record of this cache", grave=False)
        content = self._small("cas", blob.sha256, blob.size)
        if content is not None and sha256(content) != blob.sha256:
            raise RemoteError(f"sent other bytes than those of {blob.sha256[:12]}…", grave=False)
        return content

    def _lists(self, answer: "_Answer") -> chunks.Lists:
        """The pieces of its large contents."""
        if CHUNKS_FILE not in answer.files:
            return {}
        data = self._checked(answer.files[CHUNKS_FILE], _MAX_RESULT)
        try:
            return {} if data is None else chunks.decode(data)
        except ValueError as error:
            raise RemoteError(f"sent a malformed list of pieces ({error})", grave=False) from error

    def _contents(self, store: Local, record: Record, lists: chunks.Lists) -> bool:
        """Bring all outputs of a record to the local store; False if the remote lacks one."""
        weak = {output.sha256: output.xxh3 for output in record.outputs}
        seeds = chunks.Seeds(store.alike(record) if lists else ())
        for blob in dict.fromkeys(record.contents()):
            if not store.blobs.has(blob) and not self._blob(store, blob, weak[blob.sha256], lists.get(blob.sha256), seeds):
                return False
        return True

    def _small(self, kind: str, name: str, limit: int) -> bytes | None:
        pieces: list[bytes] = []
        return b"".join(pieces) if self._remote.get(kind, name, limit, pieces.append) else None

    def _blob(
        self,
        store: Local,
        blob: Blob,
        xxh3: str | None,
        pieces: tuple[Blob, ...] | None = None,
        seeds: chunks.Seeds | None = None,
    ) -> bool:
        """Download to the local store; False if the remote does not have it. RemoteError if what it sends is not what was asked for.

        pieces: what it was cut into, if it was; those that `seeds` has are not downloaded.
        """
        there = True
        if pieces is not None and sum(piece.size for piece in pieces) != blob.size:
            raise RemoteError(f"sent a list of pieces that do not make up {blob.sha256[:12]}…", grave=False)

        def feed(sink: Sink) -> None:
            nonlocal there
            for piece in (blob,) if pieces is None else pieces:
                known = seeds.piece(piece.sha256) if seeds is not None and pieces is not None else None
                if known is not None:
                    sink(known)
                elif not self._remote.get("cas", piece.sha256, piece.size, sink):
                    there = False
                    return

        try:
            store.blobs.receive(blob, feed, xxh3)
        except Damaged as error:
            if not there:
                return False
            raise RemoteError(f"sent other bytes than those of {blob.sha256[:12]}…", grave=False) from error
        return True


class _Answer(NamedTuple):
    """An action result: its record, and all its files by name."""

    record: Record
    files: Mapping[str, Blob]


def _action_result(record: Record, own: list[tuple[str, Blob]], lists: chunks.Lists) -> bytes:
    """Bazel's action result. A large output has its pieces as files, so that a server keeps and checks these."""
    files = [(output.name, Blob(output.sha256, output.size)) for output in record.outputs if output.sha256 not in lists]
    files += [(f"{RECORD_FILE}-{name}", blob) for name, blob in sorted(record.manifests.items())]
    files += own
    files += [(f"{CHUNKS_FILE}-{piece.sha256}", piece) for piece in dict.fromkeys(piece for found in lists.values() for piece in found)]
    return action_result(files, record.log)


def _files(data: bytes) -> Mapping[str, Blob]:
    try:
        return dict(output_files(data))
    except ValueError as error:
        raise RemoteError(f"sent a malformed action result ({error})", grave=False) from error
