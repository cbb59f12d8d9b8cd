"""Where the cache is and how it behaves: environment first, then axforge.toml, then pyproject.toml, then defaults.

[tool.axforge.cache]        # in axforge.toml: [cache]
dir = "~/.cache/axforge"    # AXFORGE_CACHE_DIR
size_limit = "20 GB"        # AXFORGE_CACHE_SIZE_LIMIT; "none" for no limit
link = true                 # hard links where the file system has no reflinks
remote = "https://cache.example.org/axforge"   # AXFORGE_CACHE_REMOTE; or a folder, any fsspec URL, or several: mirrors://A,B
mode = "ro"                 # AXFORGE_CACHE_MODE: off, ro, rw
trusted_keys = ["ed25519:…"]        # AXFORGE_CACHE_TRUSTED_KEYS, with commas: only what they signed is used
signing_key = "~/.axforge.pem"      # AXFORGE_CACHE_SIGNING_KEY: a file, or the PEM itself
untrusted = false           # AXFORGE_CACHE_UNTRUSTED=1: for pull requests, keep apart what is made
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.layout import Warn
from axforge.cache.store import UNTRUSTED, Store, to_stderr

if TYPE_CHECKING:
    from axforge.cache.remote.tier import Tier

DEFAULT_LIMIT = 20 * 10**9
MODES = ("off", "ro", "rw")
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_KEYS: dict[str, type | tuple[type, ...]] = {"dir": str, "size_limit": (str, int), "link": bool, "remote": str, "mode": str}
_KEYS |= {"trusted_keys": list, "signing_key": str, "untrusted": bool}


@dataclass(frozen=True)
class Config:
    """dir: cache folder. size_limit: bytes or None. remote: URL or folder, '' for none. mode of the remote: off, ro or rw.

    trusted_keys: public keys whose records are used; none: everybody's. signing_key: file or PEM of the key that signs, '' for none.
    untrusted: keep what is made apart from what others use. where: the file that says so, for errors.
    """

    dir: Path
    size_limit: int | None = DEFAULT_LIMIT
    link: bool = True
    remote: str = ""
    mode: str = "ro"
    trusted_keys: tuple[str, ...] = ()
    signing_key: str = ""
    untrusted: bool = False
    where: str = ""


def parse_size(text: str | int) -> int:
    """Bytes in "20 GB", "512MiB", "1000". CacheError when it is not a size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    if not match:
        raise CacheError(f"{text!r} is not a size.", fix="Write it like 20 GB, 512 MiB or a number of bytes.")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def load(start_dir: Path) -> Config:
    """The configuration that holds in a folder: found there or in the nearest one above. CacheError for what is wrong in it."""
    table, where = _table(Path(os.path.abspath(start_dir)))
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise CacheError(f"{unknown[0]!r} is not a setting of the cache.", where=where, fix=f"There are: {', '.join(_KEYS)}.")
    for name, value in table.items():
        if not isinstance(value, _KEYS[name]) or (isinstance(value, bool) and _KEYS[name] is not bool):
            raise CacheError(f"{value!r} is not a value for {name!r}.", where=where)
    environ = os.environ
    mode = environ.get("AXFORGE_CACHE_MODE") or table.get("mode", "ro")
    if mode not in MODES:
        raise CacheError(f"{mode!r} is not a mode of the remote cache.", where=where, fix=f"There are: {', '.join(MODES)}.")
    limit = environ.get("AXFORGE_CACHE_SIZE_LIMIT") or table.get("size_limit", DEFAULT_LIMIT)
    folder = environ.get("AXFORGE_CACHE_DIR") or table.get("dir")
    base = Path(where).parent if where and not environ.get("AXFORGE_CACHE_DIR") else Path.cwd()
    return Config(
        dir=base / Path(folder).expanduser() if folder else _default_dir(),
        size_limit=None if str(limit).lower() == "none" else parse_size(limit),
        link=table.get("link", True),
        remote=environ.get("AXFORGE_CACHE_REMOTE", table.get("remote", "")),
        mode=mode,
        trusted_keys=_trusted_keys(table),
        signing_key=environ.get("AXFORGE_CACHE_SIGNING_KEY") or _beside(where, table.get("signing_key", "")),
        untrusted=_flag("AXFORGE_CACHE_UNTRUSTED", table.get("untrusted", False)),
        where=where,
    )


def _trusted_keys(table: Mapping[str, Any]) -> tuple[str, ...]:
    said = os.environ.get("AXFORGE_CACHE_TRUSTED_KEYS")
    return tuple(filter(None, map(str.strip, said.split(",")))) if said else tuple(map(str, table.get("trusted_keys", ())))


def _beside(where: str, path: str) -> str:
    """A path of a configuration file, which is relative to that file."""
    return str(Path(where).parent / Path(path).expanduser()) if path else ""


def _flag(variable: str, otherwise: bool) -> bool:
    said = os.environ.get(variable, "").lower()
    if said not in ("", "0", "1", "true", "false"):
        raise CacheError(f"{said!r} is not a value for {variable}.", fix="Write 1 or 0.")
    return said in ("1", "true") if said else otherwise


def _default_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "axforge"


def _table(start: Path) -> tuple[dict[str, Any], str]:
    for folder in (start, *start.parents):
        for name, path in (("axforge.toml", ("cache",)), ("pyproject.toml", ("tool", "axforge", "cache"))):
            table: Any = _toml(folder / name)
            for part in path:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            if table:
                if not isinstance(table, dict):
                    raise CacheError("The settings of the cache are not a table.", where=str(folder / name))
                return table, str(folder / name)
    return {}, ""


def _toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return {}
    if "cache" not in text:
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CacheError(f"This is not valid TOML: {error}.", where=str(file)) from error


@lru_cache
def _tier(url: str, mode: str, token: str) -> "Tier":
    """One for all stores of this process: a remote in trouble is left alone by all of them, and its connection is used again."""
    from axforge.cache.remote.connect import connect

    return connect(url, mode, token)


def fresh_start(start_dir: Path) -> None:
    """For a process that lives long, between two jobs: give back what it used, and ask a remote again that was in trouble."""
    open_store(start_dir).close()
    _tier.cache_clear()


def open_store(start_dir: Path, *, config: Config | None = None, warn: Warn = to_stderr) -> Store:
    """The store that the configuration of a folder asks for. CacheError for a wrong configuration; never for an unusable cache."""
    found = config or load(start_dir)
    remote, folder, trust, index = found.remote, found.dir, None, None
    if found.untrusted:
        from axforge.cache.remote.connect import untrusted_url  # few configurations ask for it

        remote, folder = untrusted_url(remote), folder / UNTRUSTED
    elif found.trusted_keys or found.signing_key:
        from axforge.cache.trust import configured  # few configurations ask for it

        trust = configured(found.trusted_keys, found.signing_key, found.where)
        # others may write to the cache folder, and put another one in the place of a folder in it: what is only ours is kept elsewhere
        index = _default_dir() / "private" / sha256(os.fsencode(os.path.abspath(folder)))[:16]
    tier = _tier(remote, found.mode, os.environ.get("AXFORGE_CACHE_TOKEN", "")) if remote and found.mode != "off" else None
    return Store(
        folder, index=index, remote=tier, size_limit=found.size_limit, link=found.link, warn=warn, trust=trust, untrusted=found.untrusted
    )
