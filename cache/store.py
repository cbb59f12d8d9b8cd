"""The store: records of actions and the contents they refer to, in one folder that many processes and machines share.

Contents go first and their record last, each synced and then renamed into place, so a record never appears before what it names.
Reading trusts nothing: a record must carry its own checksum and hash to its key, and every byte handed out is hashed on the way.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.cache import stats
from axforge.cache.blobs import Blobs
from axforge.cache.digest import FileDigest, Hasher, hash_file, open_regular, sha256
from axforge.cache.disk import FULL, READ_ONLY, copy_hashing, host, make_folder, sweep, unique_name, write_bytes, written
from axforge.cache.errors import CacheError, Damaged, masked
from axforge.cache.files import Files
from axforge.cache.key import Action, Scalar, canonical, is_hash
from axforge.cache.layout import Layout, Warn, is_refusal
from axforge.cache.lease import lease_in
from axforge.cache.lock import acquire, held
from axforge.cache.record import MAX_RECORD, Blob, Output, Record, parse, unstored

if TYPE_CHECKING:
    from axforge.cache.remote.tier import Tier
    from axforge.cache.trust import Trust

#: Last use is noted at most this often (seconds): it is the file's access order, not a log.
_TOUCH_EVERY = 60
#: Below a cache folder, and below a remote: what pull requests make.
UNTRUSTED = "untrusted"

_said: set[str] = set()


def to_stderr(sentence: str) -> None:
    """The default `warn`; says a sentence once, however many stores a process opens."""
    if sentence in _said:
        return
    _said.add(sentence)
    print(f"cache: {sentence}", file=sys.stderr, flush=True)


class Store:
    """A cache in folder `root`.

    index: folder of the stat index (default: inside root, private to host and user). remote: second tier. size_limit: bytes, None
    for no limit. link: hard links where there are no reflinks. durable: sync to disk. warn: gets each sentence once.

    trust: whose records are used; None: everybody's. untrusted: what is made here is marked, and no other store uses it.
    """

    def __init__(
        self,
        root: Path,
        *,
        index: Path | None = None,
        remote: "Tier | None" = None,
        size_limit: int | None = None,
        link: bool = True,
        durable: bool = True,
        warn: Warn = to_stderr,
        trust: "Trust | None" = None,
        untrusted: bool = False,
    ) -> None:
        self.layout = Layout(Path(os.path.abspath(root)))
        self._said: set[str] = set()
        self._warn = warn
        self.remote, self.size_limit, self.durable = remote, size_limit, durable
        self.grown = 0  # bytes of results that came in since the size limit was last looked at (see gc.keep_limit)
        self.index = index or self.layout.index
        self.files = Files(self.index)
        self.trust = trust.at_home(self.files.note("signing-key")) if trust is not None else None
        self.untrusted = untrusted
        self.blobs = Blobs(self.layout, self.warn, durable=durable, link=link, suspicious=trust is not None)
        self._lease = lease_in(self.layout.leases)

    def warn(self, sentence: str) -> None:
        """Tell the user something that did not stop the work; once, and without credentials."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._warn(masked(sentence))

    def close(self) -> None:
        """This process uses nothing of the cache any more, as far as `clean` is concerned. Its end does the same."""
        self._lease.close()

    # ------------------------------------------------------------------ reading

    def lookup(self, action: Action, *, count: bool = True) -> Record | None:
        """The record of an action whose contents are all here, from this cache or the remote; None on a miss."""
        key = action.key()
        with self.in_use():
            record = self.record(key)
            if record is not None and not self.accepts(record, "this cache"):
                record = None
            if record is not None and not all(self.blobs.has(blob) for blob in record.contents()):
                record = self._completed(record)
            tier = "local"
            if record is None and self.remote is not None and self.layout.writable:
                record, tier = self.remote.fetch(self, action), "remote"
            if record is None:
                return None
            self._use(key)
        if tier == "remote":
            self.grown += record.size
        if count and self.layout.writable:
            stats.note(self.layout.stats, tier, record.size, float(record.provenance.get("seconds") or 0), record.stage, record.label)
        return record

    def record(self, key: str) -> Record | None:
        """The local record for a key; a damaged one is set aside and counts as none."""
        path = self.layout.record(key)
        try:
            with open_regular(path) as stream:
                return parse(stream.read(MAX_RECORD + 1), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.warn(f"The record {key[:16]}… cannot be read ({error.strerror}); its stage runs again.")
            return None
        except CacheError as error:
            self.blobs.set_aside(path, error.what.rstrip("."))
            return None

    def objection(self, record: Record) -> str:
        """Why a record is not used here, although it is sound; '' when it is."""
        if record.provenance.get("namespace") == UNTRUSTED and not self.untrusted:
            return "comes from an untrusted namespace"
        return self.trust.objection(record) if self.trust is not None else ""

    def accepts(self, record: Record, source: str) -> bool:
        """Whether a record may be used. Where not, the user is told once of each reason. source: where it is, for the sentence."""
        why = self.objection(record)
        if why:
            self.warn(f"A result in {source} {why}; results like it are not used, and their stages run here.")
        return not why

    def _completed(self, record: Record) -> Record | None:
        """The record, if the remote can supply what is missing here."""
        if self.remote is not None and self.layout.writable and self.remote.complete(self, record):
            return record
        self.warn(f"A content of {record.stage} ({record.label or record.key[:16]}) is gone from the cache; the stage runs again.")
        return None

    def alike(self, record: Record) -> Iterator[Path]:
        """Contents of the newest other record of the same stage and model: what changed in part has the rest in common with them."""
        said = [canonical({name: value})[1:-1] for name, value in (("stage", record.action["stage"]), ("label", record.label))]
        newest, used = "", 0.0
        for path in self.layout.ac.glob("*/*"):
            try:
                with open_regular(path) as stream:
                    changed, text = path.stat().st_mtime, stream.read(MAX_RECORD)
            except OSError:
                continue  # cleaned meanwhile
            if path.name != record.key and changed > used and all(words in text for words in said):
                newest, used = path.name, changed
        kin = self.record(newest) if is_hash(newest) else None  # only this one is parsed: there may be thousands
        yield from (self.layout.blob(blob.sha256) for blob in (kin.contents() if kin else ()))

    def restore(self, record: Record, dest: Path) -> None:
        """Put all outputs of a record into folder `dest`, read-only, each by a rename after all have been checked.

        Damaged when a content is missing or is not itself: it has been set aside, and nothing in `dest` has changed.
        """
        dest.mkdir(parents=True, exist_ok=True)
        sweep(dest)
        ready: list[tuple[Path, Path]] = []
        try:
            for output in record.outputs:
                temporary = dest / f".{output.name}.{unique_name()}"
                ready.append((temporary, dest / output.name))
                self.blobs.place(Blob(output.sha256, output.size), output.xxh3, temporary)
            for temporary, target in ready:
                os.replace(temporary, target)
        finally:
            for temporary, _ in ready:
                temporary.unlink(missing_ok=True)

    def intact(self, record: Record, dest: Path) -> bool:
        """Whether the outputs of a record are in `dest` as they were published. Files whose stat is unchanged are not read."""
        try:
            found = self.files.digests([dest / output.name for output in record.outputs])
        except CacheError:
            return False
        return all((f.size, f.xxh3) == (o.size, o.xxh3) for f, o in zip(found, record.outputs, strict=True))

    # ------------------------------------------------------------------ writing

    def put(
        self, action: Action, produced: Path, provenance: Mapping[str, Scalar], *, log: str | None = None, private: bool = False
    ) -> Record:
        """Keep the outputs of an action that are in folder `produced`, and their record. CacheError if an output is not there.

        `private`: nobody writes to these files any more, so they may be linked. A cache that cannot be written (read only, full)
        is a warning, and the record comes back with `stored` False.
        """
        found = {name: hash_file(produced / name)[0] for name in sorted(action.outputs)}
        record, extra = self._record_of(action, found, provenance, log)
        if not self.layout.writable:
            self.warn(f"{self.layout.root} cannot be written ({self.layout.reason}); results are not kept.")
            return unstored(record)
        try:
            with self.in_use():
                record = self._checked_against_previous(record)
                if self.trust is not None:
                    record = self.trust.sign(record)
                for name, content in found.items():
                    self.blobs.keep_file(produced / name, content, private=private)
                    self.files.learn(content)
                for data in extra:
                    self.blobs.keep_bytes(sha256(data), data)
                self.write_record(record)
                self._use(record.key)
        except OSError as error:
            self._tell_unwritable(error)
            return unstored(record)
        stats.note(self.layout.stats, "ran", record.size, 0.0, record.stage, record.label)
        if self.remote is not None:
            self.remote.push(self, record)
        self.grown += record.size
        return record

    def _record_of(
        self, action: Action, found: Mapping[str, FileDigest], provenance: Mapping[str, Scalar], log: str | None
    ) -> tuple[Record, list[bytes]]:
        trees = {name: tree.manifest() for name, tree in action.trees()}
        kept = masked(log).encode() if log else b""
        marked = {**provenance, **({"namespace": UNTRUSTED} if self.untrusted else {})}
        record = Record(
            key=action.key(),
            action=action.as_json(),
            outputs=tuple(Output(name, content.sha256, content.xxh3, content.size) for name, content in found.items()),
            manifests={name: Blob(sha256(data), len(data)) for name, data in trees.items()},
            log=Blob(sha256(kept), len(kept)) if kept else None,
            provenance={name: masked(value) if isinstance(value, str) else value for name, value in marked.items()},
        )
        return record, [*trees.values(), *([kept] if kept else [])]

    def _checked_against_previous(self, record: Record) -> Record:
        """The same stage on the same inputs should give the same bytes; where it does not, say so and note it."""
        before = self.record(record.key)
        if before is None or before.outputs == record.outputs:
            return record
        names = ", ".join(new.name for old, new in zip(before.outputs, record.outputs, strict=True) if old != new)
        self.warn(f"{record.stage} ({record.label or record.key[:16]}) gave other bytes than before for the same inputs: {names}.")
        return replace(record, provenance={**record.provenance, "nondeterministic": names})

    def write_record(self, record: Record) -> None:
        """Put a record in place; all its contents must be there. OSError when it cannot be written."""
        target = self.layout.record(record.key)
        make_folder(target.parent, self.durable)
        with written(target, self.layout.temporary(), durable=self.durable, mode=0o644) as temporary:
            write_bytes(temporary, record.to_bytes())

    def adopt(self, record: Record, bring: Callable[[Blob, str | None], object]) -> None:
        """Keep a record that was made elsewhere. bring(content, its xxh3 or None) puts a content into the store, outputs first.

        What `bring` raises passes through; OSError when the cache cannot be written.
        """
        weak = {output.sha256: output.xxh3 for output in record.outputs}
        with self.in_use():
            for blob in dict.fromkeys(record.blobs()):
                bring(blob, weak.get(blob.sha256))
            self.write_record(record)
            self._use(record.key)
        self.grown += record.size

    def _tell_unwritable(self, error: OSError) -> None:
        if error.errno in FULL:
            self.warn(f"There is no room in {self.layout.root} ({error.strerror}); a result was not kept. `clean` makes room.")
        elif is_refusal(error):
            self.warn(f"{self.layout.root} cannot be written ({error.strerror}); results are not kept.")
        else:
            self.warn(f"A result could not be kept in {self.layout.root}: {error.strerror or error}.")

    # ------------------------------------------------------------------ sharing

    @contextmanager
    def work(self, *, beside: Path | None = None) -> Iterator[Path]:
        """A private folder for a stage to write to, gone afterwards.

        On the cache's file system, so that what it holds can be kept without copying; in folder `beside` if that is given (the cache
        is full), or wherever temporary files go if the cache cannot be written. OSError when it cannot be made.
        """
        if beside is not None or not self.layout.writable:
            import tempfile  # only a cache that cannot be written needs it

            if beside is not None:
                beside.mkdir(parents=True, exist_ok=True)
                sweep(beside)
            with tempfile.TemporaryDirectory(prefix=f".axforge.{host()}-{os.getpid()}-", dir=beside) as elsewhere:
                yield Path(elsewhere)
            return
        folder = self.layout.temporary()
        lock = acquire(folder.with_name(folder.name + ".lock"))
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(folder.name + ".lock").unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)

    @contextmanager
    def single_flight(self, key: str, what: str = "the same stage") -> Iterator[None]:
        """One process at a time for a key; look up again inside. Without locks (see cache.lock) work may be done twice."""
        if not self.layout.writable:
            yield
            return

        def waiting() -> None:
            self.warn(f"Waiting for another process that builds {what}.")

        with held(self.layout.lock(key), waiting=waiting):
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While inside, `clean` waits."""
        if not self.layout.writable:
            yield
            return
        with held(self.layout.lock("store"), shared=True):
            yield

    def _use(self, key: str) -> None:
        """Note that a key is used now, and by this process."""
        if not self.layout.writable:
            return
        path = self.layout.record(key)
        try:
            self._lease.add(key)
            if time.time() - path.stat().st_mtime > _TOUCH_EVERY:
                os.utime(path)
        except OSError as error:
            if not is_refusal(error) and error.errno not in FULL and not isinstance(error, FileNotFoundError):
                raise


def publish(produced: Path, record: Record, dest: Path) -> None:
    """Bring outputs that could not be kept from `produced` to `dest`, as `restore` would have done."""
    dest.mkdir(parents=True, exist_ok=True)
    for output in record.outputs:
        temporary = dest / f".{output.name}.{unique_name()}"
        hasher = Hasher(strong=False)
        try:
            copy_hashing(produced / output.name, temporary, hasher)
            if hasher.xxh3 != output.xxh3:
                raise Damaged("An output changed while it was published.", where=str(produced / output.name))
            os.chmod(temporary, READ_ONLY)
            os.replace(temporary, dest / output.name)
        finally:
            temporary.unlink(missing_ok=True)
