"""doit's own database of what it did: when it is damaged, it is set aside, and doit asks the cache again."""

import contextlib
import sqlite3
import sys
from pathlib import Path

#: what SQLite writes beside a database; a journal that is left would be played into the next one
_BESIDE = ("", "-journal", "-wal", "-shm")


def heal(path: Path) -> None:
    """Sets a damaged database aside, under its name with `.damaged`, and says so. Nothing is lost: the results are in the cache."""
    if not path.is_file() or not _damaged(path):
        return
    aside = path.with_name(path.name + ".damaged")
    for suffix in _BESIDE:
        # another process may have been faster, and what cannot be moved is named by doit itself
        with contextlib.suppress(OSError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    print(f"doit's database was damaged. It is set aside as {aside}; what is built is found again in the cache.", file=sys.stderr)


def _damaged(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection:
            if connection.execute("pragma quick_check(1)").fetchone() != ("ok",):
                return True
            if connection.execute("select 1 from sqlite_master where name = 'doit'").fetchone() is None:
                return False  # new
            bad = "select 1 from doit where not json_valid(task_data) or json_type(task_data) <> 'object' limit 1"
            return connection.execute(bad).fetchone() is not None
    except sqlite3.OperationalError:
        return False  # it is locked, or may not be opened; that is no damage
    except sqlite3.DatabaseError:
        return True
