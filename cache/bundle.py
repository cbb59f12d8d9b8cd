"""A bundle: records and all contents they refer to in one file, for a machine that reaches no network.

    bundle  = "axforge cache bundle 1\\n" content* index trailer
    index   = canonical JSON of {"v": 1, "records": [[key, sha256]], "contents": [[sha256, size]]}
    trailer = 16 hex digits: bytes of the index, " ", its SHA-256, "\\n"

The contents follow one another in the order of the index; the records are among them. The format has no names, paths, links or
compression, and the sizes must come to the size of the file, so there is nothing to leave a folder with or to blow up.
Everything is checked before the first byte is stored, and each content again by its SHA-256 while it is.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from axforge.cache.digest import PIECE, Hasher, sha256
from axforge.cache.disk import FULL, unique_name, written
from axforge.cache.errors import CacheError, Damaged
from axforge.cache.gc import keep_limit
from axforge.cache.inspect import bytes_text
from axforge.cache.key import canonical, is_hash
from axforge.cache.record import MAX_BLOB, MAX_RECORD, Blob, Record, parse
from axforge.cache.reports import ExportReport, ImportReport

if TYPE_CHECKING:
    from axforge.cache.store import Store

_MAGIC = b"axforge cache bundle 1\n"
_TRAILER = 16 + 1 + 64 + 1
_MAX_INDEX = 16 << 20
_TRUSTED = "Ask whoever made it to build with a signing key, and name its public key in trusted_keys."
_AGAIN = "Copy or export it again."

Piece = bytes | memoryview


# ---------------------------------------------------------------------- writing


def export(store: "Store", records: Mapping[str, Record], file: Path) -> ExportReport:
    """Write records (by key) and what they refer to into a new bundle. The same records give the same bytes.

    CacheError when a content is missing or damaged, or the file cannot be written; then there is no file.
    """
    beside = file.with_name(f".{file.name}.{unique_name()}")
    listed: dict[str, int] = {}
    try:
        with store.in_use(), written(file, beside, durable=True, mode=0o644), open(beside, "xb") as stream:
            stream.write(_MAGIC)
            for key in sorted(records):
                data = records[key].to_bytes()
                _add(listed, Blob(sha256(data), len(data)), lambda data=data: stream.write(data))  # type: ignore[misc]
                for blob in _kept(store, records[key]):
                    _add(listed, blob, lambda blob=blob: _copy(store, blob, stream))  # type: ignore[misc]
            table = [[key, sha256(records[key].to_bytes())] for key in sorted(records)]
            index = canonical({"v": 1, "records": table, "contents": [list(item) for item in listed.items()]})
            stream.write(index + b"%016x %s\n" % (len(index), sha256(index).encode()))
    except OSError as error:
        raise CacheError(
            f"The bundle cannot be written: {error.strerror}.", where=str(file), fix="Name a file on a disk with room."
        ) from error
    return {"file": str(file), "records": len(records), "contents": len(listed), "bytes": file.stat().st_size}


def _add(listed: dict[str, int], blob: Blob, write: Callable[[], object]) -> None:
    if blob.sha256 not in listed:
        write()
        listed[blob.sha256] = blob.size


def _kept(store: "Store", record: Record) -> Iterator[Blob]:
    """What of a record goes into a bundle: all outputs, and what explains as far as it is still there."""
    yield from record.contents()
    yield from (blob for blob in record.extras() if store.blobs.has(blob))


def _copy(store: "Store", blob: Blob, stream: IO[bytes]) -> None:
    hasher = Hasher()
    path = store.layout.blob(blob.sha256)
    try:
        source = open(path, "rb", buffering=0)  # noqa: SIM115 (only opening it tells that it is gone)
    except FileNotFoundError as error:
        raise Damaged("A stored content is gone.", where=str(path), fix="Compile the model again.") from error
    with source:
        while piece := source.read(PIECE):
            hasher.update(piece)
            stream.write(piece)
    if (hasher.sha256, hasher.size) != (blob.sha256, blob.size):
        store.blobs.set_aside(path, "its content is not what its name says")
        raise Damaged("A stored content was damaged.", where=str(path), fix="Compile the model again.")


# ---------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Span:
    """Where a content is in a bundle: its first byte, and how many."""

    offset: int
    size: int


@dataclass(frozen=True)
class Bundle:
    """An open bundle whose index has been checked. records: SHA-256 of each record, by key. places: of contents, by SHA-256."""

    name: str
    stream: IO[bytes]
    records: Mapping[str, str]
    places: Mapping[str, Span]

    def feed(self, content: str, sink: Callable[[Piece], object]) -> None:
        """The bytes of a content, as they are in the file."""
        place = self.places[content]
        self.stream.seek(place.offset)
        left = place.size
        while left and (piece := self._read(min(left, PIECE))):
            left -= len(piece)
            sink(piece)

    def _read(self, count: int) -> bytes:
        try:
            return self.stream.read(count)
        except OSError as error:
            raise CacheError(f"The bundle cannot be read: {error.strerror}.", where=self.name, fix=_AGAIN) from error

    def record(self, key: str) -> Record:
        """One record, checked. CacheError when it is not what the index says."""
        content = self.records[key]
        if self.places[content].size > MAX_RECORD:
            raise self.refused("a record is too large")
        pieces: list[Piece] = []
        self.feed(content, pieces.append)
        data = b"".join(pieces)
        if sha256(data) != content:
            raise self.refused("a record is damaged")
        return parse(data, key)

    def checked(self, objection: Callable[[Record], str]) -> int:
        """Check all records against the contents; gives the bytes of all outputs. CacheError when anything is missing or too much.

        objection: why a sound record is not used here, '' if it is.
        """
        used, total = set(self.records.values()), 0
        for key in self.records:
            record = self.record(key)
            if why := objection(record):
                raise CacheError(f"The bundle is not used: its record of {record.stage} {why}.", where=self.name, fix=_TRUSTED)
            total += record.size
            needed = {blob.sha256: blob.size for blob in record.blobs()}
            if missing := [blob for blob in record.contents() if blob.sha256 not in self.places]:
                raise self.refused(f"a content of {record.stage} is not in it: {missing[0].sha256[:12]}…")
            if any(name in self.places and self.places[name].size != size for name, size in needed.items()):
                raise self.refused(f"a content of {record.stage} does not have the size that its record says")
            used |= set(needed)
        if set(self.places) - used:
            raise self.refused("it holds contents that no record refers to")
        return total

    def refused(self, why: str) -> CacheError:
        """The error for a bundle that is not used."""
        return CacheError(f"The bundle is damaged or was tampered with: {why}.", where=self.name, fix=_AGAIN)


@contextmanager
def opened(file: Path) -> Iterator[Bundle]:
    """A bundle, its index checked. CacheError when it is none, is damaged or cannot be read."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe must not keep us waiting
    except OSError as error:
        raise CacheError(f"The bundle cannot be read: {error.strerror}.", where=str(file), fix="Check the path.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CacheError("is not a regular file, and so not a bundle.", where=str(file), fix="`cache export` makes one.")
    with open(handle, "rb", buffering=0) as stream:
        try:
            records, places = _index(stream, os.fstat(handle).st_size)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise CacheError(f"This is not a bundle of the cache, or it is damaged: {error}.", where=str(file), fix=_AGAIN) from error
        yield Bundle(str(file), stream, records, places)


def _index(stream: IO[bytes], size: int) -> tuple[dict[str, str], dict[str, Span]]:
    """Records and places of contents. ValueError, KeyError or TypeError with the reason when the file is not a whole bundle."""
    if size < len(_MAGIC) + _TRAILER or stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin like one")
    stream.seek(size - _TRAILER)
    length, _, check = stream.read(_TRAILER).decode("ascii").partition(" ")
    count = int(length, 16)
    end = size - _TRAILER - count
    if not 0 <= count <= _MAX_INDEX or end < len(_MAGIC):
        raise ValueError("its index does not fit")
    stream.seek(end)
    text = stream.read(count)
    if f"{sha256(text)}\n" != check:
        raise ValueError("its index is not what its checksum says")
    index = json.loads(text)
    if index["v"] != 1:
        raise ValueError("it has another version")
    places: dict[str, Span] = {}
    at = len(_MAGIC)
    for name, number in index["contents"]:
        if not is_hash(name) or name in places or type(number) is not int or not 0 <= number <= MAX_BLOB:
            raise ValueError("its index lists something that is not a content")
        places[name] = Span(at, number)
        at += number
    if at != end:
        raise ValueError("the sizes in its index do not come to its own")
    records = dict(index["records"])
    if len(records) != len(index["records"]) or not all(is_hash(key) and content in places for key, content in records.items()):
        raise ValueError("its index lists something that is not a record")
    return records, places


def import_bundle(store: "Store", file: Path, *, dry_run: bool = False) -> ImportReport:
    """Keep what is in a bundle, a record at a time, each after its contents; a record that is here already stays as it is.

    A process that is killed meanwhile leaves whole records, and contents that `clean` removes. CacheError when the bundle is not
    sound (then nothing of it is kept, unless a content was damaged behind a sound index) or the cache cannot keep it.
    """
    if not store.layout.writable and not dry_run:
        raise CacheError(f"cannot be written ({store.layout.reason}), so nothing can be imported.", where=str(store.layout.root))
    with opened(file) as bundle:
        total = bundle.checked(store.objection)
        if store.size_limit is not None and total > store.size_limit:
            what = f"The bundle holds {bytes_text(total)}, and the cache keeps {bytes_text(store.size_limit)}."
            raise CacheError(what, where=str(file), fix="Raise size_limit, or AXFORGE_CACHE_SIZE_LIMIT.")
        report: ImportReport = {"file": str(file), "records": 0, "new": 0, "bytes": 0, "models": [], "dry_run": dry_run}
        models = set()
        for record in map(bundle.record, bundle.records):
            models.add(record.label)
            report["records"] += 1
            if not _is_here(store, record):
                report["new"] += 1
                report["bytes"] += record.size
                if not dry_run:
                    _keep(store, bundle, record)
    if not dry_run:
        keep_limit(store)
    return {**report, "models": sorted(models - {""})}


def _is_here(store: "Store", record: Record) -> bool:
    mine = store.record(record.key)
    return mine is not None and not store.objection(mine) and all(store.blobs.is_sound(blob) for blob in mine.contents())


def _keep(store: "Store", bundle: Bundle, record: Record) -> None:
    def bring(blob: Blob, xxh3: str | None) -> None:
        if blob.sha256 not in bundle.places:
            return  # what only explains may be missing
        if not store.blobs.is_sound(blob):
            store.blobs.receive(blob, lambda sink: bundle.feed(blob.sha256, sink), xxh3)

    name = os.path.basename(bundle.name)
    try:
        store.adopt(replace(record, provenance={**record.provenance, "from": f"bundle {name}"}), bring)
    except Damaged as error:
        raise bundle.refused("the bytes of a content are not those that its name says") from error
    except OSError as error:
        fix = "Make room: `clean` removes what is not needed." if error.errno in FULL else "Check the folder of the cache."
        raise CacheError(f"The bundle cannot be kept: {error.strerror or error}.", where=str(store.layout.root), fix=fix) from error
