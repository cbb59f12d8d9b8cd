"""Several remotes that are read one after another: `mirrors://FIRST,SECOND,…`, each a URL or a folder of its own.

For a team with a cache of its own beside a larger one that it may only read, such as that of CI or of another site.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from axforge.cache.errors import CacheError
from axforge.cache.remote.base import MIRRORS, Remote, RemoteError, Sink, register
from axforge.cache.remote.connect import open_remote

_SCHEME = f"{MIRRORS}://"


class MirroredRemote:
    """Reads come from the first remote that has what is asked for; writes go to the first one only.

    A remote that cannot be reached or refuses us is skipped from then on. That is an error only when no other one has what is asked for.
    """

    def __init__(self, remotes: Sequence[Remote]) -> None:
        self._remotes = list(remotes)
        self._skipped: list[Remote] = []

    def describe(self) -> str:
        """The remotes in the order in which they are read."""
        return ", then ".join(remote.describe() for remote in self._remotes)

    def get(self, kind: str, name: str, limit: int, sink: Sink) -> bool:
        """Download a stored content or record into `sink`; see Remote."""
        trouble: RemoteError | None = None
        for remote in self._usable():
            fed = _Fed(sink)
            try:
                if remote.get(kind, name, limit, fed):
                    return True
            except RemoteError as error:
                trouble = self._noted(remote, error)
                if fed.any:
                    break  # the next remote starts at the first byte, which the sink has already
        if trouble is not None:
            raise trouble
        return False

    def has(self, kind: str, name: str) -> bool:
        """Whether the remote has a content or record; see Remote. Whether it need not be written: the first remote has it."""
        return self._remotes[0].has(kind, name)

    def put(self, kind: str, name: str, source: Path | bytes) -> None:
        """Upload a content or record; see Remote."""
        self._remotes[0].put(kind, name, source)

    def _usable(self) -> Iterator[Remote]:
        return (remote for remote in self._remotes if remote not in self._skipped)

    def _noted(self, remote: Remote, error: RemoteError) -> RemoteError:
        """The error as one of all the remotes: grave when none is left."""
        if error.grave:
            self._skipped.append(remote)
        return RemoteError(f"failed in part: {remote.describe()} {error}", grave=len(self._skipped) == len(self._remotes))


class _Fed:
    """A sink that knows whether it was given anything."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self.any = sink, False

    def __call__(self, piece: bytes) -> object:
        self.any = True
        return self._sink(piece)


@register(MIRRORS)
def _open(url: str, token: str) -> MirroredRemote:
    """The token goes to the first remote only: it is one remote's secret, and the first is the one that is written."""
    urls = [part.strip() for part in url.removeprefix(_SCHEME).split(",")]
    if not all(urls) or any(part.startswith(_SCHEME) for part in urls):
        fix = f"Write it like {_SCHEME}https://cache.example.org/team,https://ci.example.org/axforge."
        raise CacheError("The list of remote caches has an empty or nested entry.", fix=fix)
    return MirroredRemote([open_remote(part, token if i == 0 else "") for i, part in enumerate(urls)])
