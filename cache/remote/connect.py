"""From a URL to the remote that is registered for its scheme, and to the tier in front of it."""

import importlib
from pathlib import Path

from axforge.cache.remote.base import ANY, MIRRORS, SCHEMES, Remote
from axforge.cache.remote.tier import Tier


def connect(url: str, mode: str, token: str = "") -> Tier:
    """The tier at `url`. It does not talk to it yet. CacheError when the URL cannot be used.

    mode: "ro" or "rw". token: for remotes that authenticate with one.
    """
    return Tier(open_remote(url, token), mode)


def open_remote(url: str, token: str) -> Remote:
    """The remote at `url`, of the kind that is registered for its scheme. CacheError when the URL cannot be used."""
    for file in sorted((Path(__file__).parent / "schemes").glob("[!_]*.py")):
        importlib.import_module(f"{__package__}.schemes.{file.stem}")
    scheme = url.partition("://")[0] if "://" in url else ""
    return SCHEMES.get(scheme, SCHEMES[ANY])(url, token)


def untrusted_url(url: str) -> str:
    """Where pull requests keep what they make, and read what is trusted besides; '' for no remote."""
    if not url:
        return ""
    parts = url.removeprefix(f"{MIRRORS}://").split(",") if url.startswith(f"{MIRRORS}://") else [url]
    return f"{MIRRORS}://{parts[0].strip().rstrip('/')}/untrusted,{','.join(parts)}"
