"""The second tier at a URL; loads only the kind of remote that is asked for."""

from typing import TYPE_CHECKING

from axforge.cache.errors import CacheError, masked

if TYPE_CHECKING:
    from axforge.cache.remote.tier import Tier


def connect(url: str, mode: str, token: str = "") -> "Tier":
    """The tier at `url`: http(s):// by Bazel's protocol, a folder, or any URL of fsspec. Does not yet talk to it.

    mode: "ro" or "rw". token: for http, sent as a bearer token. CacheError when the URL cannot be used.
    """
    from axforge.cache.remote.tier import Tier

    if url.startswith(("http://", "https://")):
        from axforge.cache.remote.http import HttpRemote

        return Tier(HttpRemote(url, token=token), mode)
    if "://" not in url or url.startswith("file://"):
        from pathlib import Path

        from axforge.cache.remote.folder import FolderRemote

        return Tier(FolderRemote(Path(url.removeprefix("file://")).expanduser().absolute()), mode)
    try:
        from axforge.cache.remote.objects import ObjectRemote

        return Tier(ObjectRemote(url), mode)
    except ImportError as error:
        name = url.partition("://")[0]
        raise CacheError(
            f"Object stores need fsspec and its driver for {name}:// ({error}).",
            where=masked(url),
            fix='Install them (pip install fsspec s3fs, gcsfs, adlfs …), or set mode = "off".',
        ) from error
