"""Files on their way to another machine: kept in the cache like results, and found there again by their names and hashes.

A parcel is an action named by what it holds, so the same files travel once, however many jobs and runs need them.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.cache.gc import keep_limit
from axforge.cache.key import Action, Tree
from axforge.cache.store import Store

#: Files of one record, which has a limited size.
_TOGETHER = 1000


def send(store: Store, files: Mapping[str, Path], label: str) -> dict[str, str]:
    """Put files into the cache; returns the SHA-256 of each by its name. Raises AxforgeError when the cache cannot keep them."""
    digests = store.files.digests(list(files.values()))
    for digest in digests:
        digest.confirm()
    contents = {name: digest.sha256 for name, digest in zip(files, digests, strict=True)}
    places = dict(zip(contents.values(), files.values(), strict=True))
    for action in actions(contents):
        with store.work() as folder:
            for content in action.outputs:
                (folder / content).symlink_to(places[content])
            record = store.put(action, folder, {"label": label, "started": round(time.time(), 3), "seconds": 0})
        if not record.stored:
            raise AxforgeError(
                "What the cluster needs could not be put into the cache.",
                where=label,
                fix="Fix what the cache says above: workers get files through the cache only.",
            )
    keep_limit(store)
    return contents


def receive(store: Store, contents: Mapping[str, str], folder: Path) -> None:
    """Lay a parcel out in an empty folder. Raises AxforgeError when the cache of this machine does not have it."""
    kept = folder / ".contents"
    for action in actions(contents):
        record = store.lookup(action, count=False)
        if record is None:
            raise AxforgeError(
                "The files of the job are not in the cache of this worker.",
                fix="Give the workers and whoever sends jobs one cache: the same cache.remote in mode rw, or a shared cache.dir.",
            )
        store.restore(record, kept)
    for name, content in contents.items():
        target = folder / name
        if target.resolve().parent != folder.resolve() and folder.resolve() not in target.resolve().parents:
            raise AxforgeError(f"A job names a file outside its folder: {name!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(kept / content, target)


def actions(contents: Mapping[str, str]) -> Iterator[Action]:
    """The actions whose outputs are the contents of these files."""
    names = sorted(contents)
    for start in range(0, len(names), _TOGETHER):
        part = {name: contents[name] for name in names[start : start + _TOGETHER]}
        outputs = tuple(sorted(set(part.values())))
        yield Action("parcel", 1, {"files": Tree.of(part, names_matter=True)}, {}, outputs)
