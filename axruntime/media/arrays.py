"""Samples that come as arrays: .npz files with `x` (samples along the first axis) and `y` (their classes)."""

import functools
import zipfile
from pathlib import Path

import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array


def read_arrays(path: Path) -> tuple[Array, Array]:
    """x and y of the file. Raises AxforgeError."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as e:
        raise AxforgeError(f"the arrays cannot be read: {e.strerror or e}", where=str(path), fix="Check the path.") from e
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as e:
        raise AxforgeError(f"this is not an .npz file with x and y: {e}", where=str(path), fix="Make it with numpy.savez(x=…, y=…).") from e


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> tuple[Array, Array]:
    with np.load(path, allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise ValueError(f"x has shape {list(x.shape)} and y {list(y.shape)}")
    return x, y
