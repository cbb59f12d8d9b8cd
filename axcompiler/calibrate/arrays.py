"""Calibration samples from .npy and .npz files: one sample in each file, or many stacked along the first axis."""

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError

Shapes = Mapping[str, tuple[int, ...]]


class ArraySamples:
    """Samples in files, read one file at a time. `shapes`: of the model's inputs by name.

    An .npz holds one array for each input, by its name; an .npy serves a model with one input. An array has the input's shape,
    or [N, *shape], or, where the input's first axis is 1, [N, *shape[1:]]. Raises AxforgeError, naming the file.
    """

    def __init__(self, paths: Sequence[Path], shapes: Shapes) -> None:
        self._files = [file for path in paths for file in _files(path)]
        self._shapes = shapes
        self._counts = [self._count(file) for file in self._files]

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[dict[str, NDArray[np.generic]]]:
        for file, count in zip(self._files, self._counts, strict=True):
            stacked = self._read(file)
            for i in range(count):
                yield {name: value[i] for name, value in stacked.items()}

    def _count(self, file: Path) -> int:
        counts = {len(v) for v in self._read(file).values()}
        if len(counts) != 1:
            raise AxforgeError("its arrays hold different numbers of samples", where=str(file), fix="Stack the same number for each input.")
        return counts.pop()

    def _read(self, file: Path) -> dict[str, NDArray[np.generic]]:
        """Arrays by input name, each [N, *shape]."""
        try:
            loaded = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix == ".npy" else None)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise AxforgeError(
                f"this calibration file cannot be read ({e})", where=str(file), fix="Write it with numpy.save or savez."
            ) from e
        if isinstance(loaded, np.ndarray):
            arrays = dict.fromkeys(self._shapes, loaded)
            names = "one array" if len(self._shapes) > 1 else ""
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
            names = ", ".join(sorted(arrays))
        if set(arrays) != set(self._shapes) or (isinstance(loaded, np.ndarray) and len(self._shapes) > 1):
            raise AxforgeError(
                f"the file holds {names or 'nothing'}; the model's inputs are {', '.join(sorted(self._shapes))}",
                where=str(file),
                fix="Save an .npz with one array for each input, under the input's name.",
            )
        return {name: _stacked(arrays[name], shape, name, file) for name, shape in self._shapes.items()}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".npy", ".npz"))
        if not found:
            raise AxforgeError("there is no .npy or .npz file in this folder", where=str(path), fix="Save pre-processed inputs there.")
        return found
    if not path.is_file():
        raise AxforgeError(
            "there is no such calibration file or folder", where=str(path), fix="Give a .npy or .npz file, or a folder of them."
        )
    return [path]


def _stacked(value: NDArray[np.generic], shape: tuple[int, ...], name: str, file: Path) -> NDArray[np.generic]:
    if value.shape == shape:
        return value[None]
    if value.shape[1:] == shape:
        return value
    if shape and shape[0] == 1 and value.shape[1:] == shape[1:] and math.prod(value.shape) > 0:
        return value.reshape(-1, *shape)
    raise AxforgeError(
        f"the array for '{name}' has shape {list(value.shape)}; the input's shape is {list(shape)}",
        where=str(file),
        fix="Give arrays of the input's shape, pre-processed as the model expects, or many stacked along a new first axis.",
    )
