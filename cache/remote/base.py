"""What a remote must be able to do, how it may fail, and how it is registered for its scheme."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

#: sink(bytes): takes a piece of a download.
Sink = Callable[[bytes], object]


class RemoteError(Exception):
    """The remote did not do what it was asked; the sentence names the reason and no credentials.

    grave: it is of no use to ask again in this run (it cannot be reached, does not answer in time, or refuses us).
    """

    def __init__(self, sentence: str, *, grave: bool) -> None:
        super().__init__(sentence)
        self.grave = grave


class Remote(Protocol):
    """Two flat name spaces: kind "ac" (by action key) and "cas" (by SHA-256 of the content). All raise RemoteError and nothing else."""

    def describe(self) -> str:
        """For people; without credentials."""

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """Feed the bytes to `sink`; False if there are none. RemoteError when there are more than `limit`."""

    def has(self, kind: str, name: str) -> bool:
        """Whether it is there."""

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """Store bytes or a file."""


#: open(url, token): the remote at a URL. It does not talk to it yet. CacheError when the URL cannot be used.
Opener = Callable[[str, str], Remote]
#: What opens URLs, by scheme: "https" for https://…; "" for a path without a scheme.
SCHEMES: dict[str, Opener] = {}
#: The scheme of a remote that takes URLs of every scheme that nobody else has registered.
ANY = "*"
#: The scheme of several remotes: mirrors://FIRST,SECOND.
MIRRORS = "mirrors"


def register(*schemes: str) -> Callable[[Opener], Opener]:
    """Let the decorated function open URLs of these schemes."""

    def add(opener: Opener) -> Opener:
        for scheme in schemes:
            if scheme in SCHEMES:
                raise ValueError(f"two remotes are registered for {scheme!r}")
            SCHEMES[scheme] = opener
        return opener

    return add
