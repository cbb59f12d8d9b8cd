"""Ed25519 keys, and DSSE envelopes signed by them: for the cache's records, and for what is said of a compiled model.

A private key is a PEM file (PKCS 8, as `openssl genpkey -algorithm ed25519` writes it), a public one a line of text:

    ed25519:<the 32 bytes in base64>

The arithmetic is that of the package `cryptography`, loaded when something is signed or checked (RFC 8032; DSSE: secure-systems-lab).
"""

import base64
import binascii
import hashlib

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX = "ed25519:"
_MAX_KEY_FILE = 1 << 14
_MISSING = "The package cryptography, which signatures need, is not installed: python -m pip install 'axforge[sign]'."


class SignatureProblem(Exception):
    """A key that cannot be used, or a signature that does not hold; the sentence says which."""


@dataclass(frozen=True)
class PublicKey:
    """32 bytes that check signatures."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """From its line of text; a comment may follow. SignatureProblem for anything else."""
        first = text.split(maxsplit=1)[0] if text.strip() else ""
        try:
            raw = base64.b64decode(first.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not first.startswith(_PREFIX) or len(raw) != 32:
            raise SignatureProblem(f"{first[:60]!r} is not a public key; one begins with {_PREFIX!r} and has 32 bytes in base64.")
        return cls(raw)

    @property
    def id(self) -> str:
        """A short name: the first 16 hex digits of the SHA-256 of the 32 bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return _PREFIX + base64.b64encode(self.raw).decode()

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature was made for these bytes by the private key that belongs to this one."""
        _required()
        from cryptography.exceptions import InvalidSignature  # loads slowly
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # loads slowly

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "PrivateKey":
        """A new one."""
        _required()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # loads slowly

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, pem: bytes) -> "PrivateKey":
        """From PEM without a password. SignatureProblem for anything else."""
        _required()
        from cryptography.exceptions import UnsupportedAlgorithm  # loads slowly
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # loads slowly
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # loads slowly

        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SignatureProblem("This is not a private key in PEM without a password.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureProblem("This private key is not an Ed25519 key.")
        return cls(key)

    def pem(self) -> bytes:
        """As PEM (PKCS 8), without a password."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # loads slowly

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The signature of these bytes, 64 bytes; always the same for the same bytes."""
        return self._key.sign(data)


def _required() -> None:
    try:
        import cryptography  # noqa: F401 (only to see that it is there)
    except ModuleNotFoundError as error:
        raise SignatureProblem(_MISSING) from error


def read_key(given: str) -> PrivateKey:
    """The private key in a file, or given as its PEM itself, as secrets of a CI often are. SignatureProblem when it cannot be used."""
    return PrivateKey.parse(given.encode() if given.lstrip().startswith("-----BEGIN") else _content(Path(given)))


def read_public_key(given: str) -> PublicKey:
    """The public key in a file, or given as its line of text. SignatureProblem when it cannot be used."""
    return PublicKey.parse(given if given.startswith(_PREFIX) else _content(Path(given)).decode(errors="replace"))


def _content(path: Path) -> bytes:
    try:
        handle = os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            return stream.read(_MAX_KEY_FILE)
    except OSError as error:
        shown = "that was given" if re.fullmatch(r"[A-Za-z0-9+/=\s]{40,}", str(path)) else path  # a secret, and not the name of a file
        raise SignatureProblem(f"The key {shown} cannot be read: {error.strerror}.") from error


# ---------------------------------------------------------------------- DSSE


def _signed_bytes(kind: str, payload: bytes) -> bytes:
    """What a DSSE signature is made for (its pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def envelope(kind: str, payload: bytes, key: PrivateKey) -> dict[str, object]:
    """A signed DSSE envelope as JSON types. kind: the media type of the payload."""
    signature = {"keyid": key.public.id, "sig": base64.b64encode(key.sign(_signed_bytes(kind, payload))).decode()}
    return {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [signature]}


def opened(document: Mapping[str, object], kind: str, keys: Iterable[PublicKey]) -> tuple[bytes, PublicKey]:
    """The payload of an envelope and the key that signed it. SignatureProblem unless one of `keys` did."""
    trusted = list(keys)
    payload, signatures = _decoded(document.get("payload")), document.get("signatures")
    if document.get("payloadType") != kind:
        raise SignatureProblem(f"The envelope holds {document.get('payloadType')!r} and not {kind!r}.")
    signed = _signed_bytes(kind, payload)
    for entry in signatures[:16] if isinstance(signatures, list) else ():
        signature = _decoded(entry.get("sig") if isinstance(entry, dict) else None)
        for key in trusted:
            if key.verifies(signed, signature):
                return payload, key
    raise SignatureProblem(f"It is not signed by the key {', '.join(key.id for key in trusted)}.")


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else _absent()
    except (binascii.Error, ValueError) as error:
        raise SignatureProblem("The envelope is damaged: a part of it is not base64.") from error


def _absent() -> bytes:
    raise SignatureProblem("The envelope is damaged: it lacks a payload or a signature.")


def is_envelope(document: object) -> bool:
    """Whether parsed JSON looks like a DSSE envelope, signed or not."""
    return isinstance(document, dict) and "payloadType" in document


