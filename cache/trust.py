"""Whose records are used. A record is a claim that nobody can check without running its action; a signature says who makes it.

    signed bytes = "axforge record 1\\n" canonical JSON of {"key", "outputs": [{"name", "sha256", "xxh3", "size"}], "manifests", "log"}

The key names the action, so a signature binds what went in to what came out. It does not cover what only explains: label, time and host.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from axforge.cache.disk import unique_name, write_bytes
from axforge.cache.errors import CacheError
from axforge.cache.key import canonical
from axforge.cache.record import Record, Signature
from axforge.signatures import PrivateKey, PublicKey, SignatureProblem, read_key

_TAG = b"axforge record 1\n"


class Trust:
    """Records are used when one of `keys` or `signer` signed them; what is made here is signed by `signer`, if there is one."""

    def __init__(self, keys: Iterable[PublicKey], signer: PrivateKey | None = None) -> None:
        self.keys = {key.id: key for key in (*keys, *([signer.public] if signer else []))}
        self.signer = signer

    def at_home(self, file: Path | None) -> "Trust":
        """The same; without a signer, the results of this user on this host are signed by a key of their own, kept in `file`."""
        if self.signer is not None or file is None:
            return self
        own = _own_key(file)
        return Trust((*self.keys.values(), own.public), own)

    def sign(self, record: Record) -> Record:
        """The record with our signature, if we have a key."""
        if self.signer is None:
            return replace(record, signature=None)
        return replace(record, signature=Signature(self.signer.public.id, self.signer.sign(signed_bytes(record)).hex()))

    def objection(self, record: Record) -> str:
        """Why a record is not used; '' when it is."""
        if record.signature is None:
            return "is not signed"
        key = self.keys.get(record.signature.key)
        if key is None:
            return f"is signed by the key {record.signature.key}, which trusted_keys does not name"
        if not key.verifies(signed_bytes(record), bytes.fromhex(record.signature.value)):
            return f"has a signature that the key {key.id} did not make"
        return ""


def signed_bytes(record: Record) -> bytes:
    """What a record's signature is made for."""
    document = record.as_json()
    return _TAG + canonical({name: document[name] for name in ("key", "outputs", "manifests", "log")})


def configured(trusted_keys: Iterable[str], signing_key: str, where: str) -> Trust | None:
    """The trust that a configuration asks for; None if it names no keys. CacheError for a key that cannot be used."""
    try:
        keys = [PublicKey.parse(text) for text in trusted_keys]
        signer = read_key(signing_key) if signing_key else None
    except SignatureProblem as problem:
        raise CacheError(str(problem), where=where, fix="`cache keygen FILE` makes a pair of keys.") from problem
    return Trust(keys, signer) if keys or signer else None


def generate(file: Path) -> PublicKey:
    """Write a new private key to `file`, for its owner alone, and its public key beside it. CacheError if that cannot be done."""
    try:
        key = PrivateKey.generate()
        write_bytes(file, key.pem())
        file.with_name(f"{file.name}.pub").write_text(f"{key.public}\n", encoding="ascii")
    except SignatureProblem as problem:
        raise CacheError(str(problem), where=str(file)) from problem
    except OSError as error:
        raise CacheError(f"The key cannot be written: {error.strerror}.", where=str(file), fix="Name a new file.") from error
    return key.public


def _own_key(file: Path) -> PrivateKey:
    """The key in a file of this user's private folder; made when it is first needed, by one of all processes."""
    try:
        if not file.exists():
            temporary = file.with_name(f".{unique_name()}")
            write_bytes(temporary, PrivateKey.generate().pem())
            try:
                os.link(temporary, file)
            except FileExistsError:
                pass  # another process was faster
            finally:
                temporary.unlink()
        return read_key(str(file))
    except SignatureProblem as problem:
        raise CacheError(str(problem), where=str(file), fix="Remove the file if it is damaged: another key is made.") from problem
    except OSError as error:
        raise CacheError(f"The key of your own results cannot be kept: {error.strerror}.", where=str(file)) from error
