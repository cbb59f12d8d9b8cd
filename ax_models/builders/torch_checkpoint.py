"""Reads the tensors of a PyTorch checkpoint (the format before version 1.6) without PyTorch, and without running what is in it.

A checkpoint is a pickle, and a pickle may call any function it names. This reader knows the four names that a dictionary of
tensors needs, gives inert stand-ins for them, and refuses every other. The file is:

    pickle(magic number) pickle(protocol version) pickle(sizes of C types) pickle(objects)
    pickle(list of storage keys) and then for each key: count:i64 values, little-endian

where a tensor among the objects is a view (offset, shape, strides) of a storage that the pickle refers to by its key.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.errors import FormatError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4"}
_FIX = "Install the package that ships this file again."


@dataclass
class _Storage:
    dtype: np.dtype[Any]
    count: int
    values: NDArray[Any] | None = None


@dataclass(frozen=True)
class _View:
    """A tensor whose storage is read later."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> NDArray[Any]:
        assert self.storage.values is not None
        if 0 in self.shape:
            return np.empty(self.shape, self.storage.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if last >= self.storage.count or math.prod(self.shape) > self.storage.count:
            raise ValueError("a tensor reaches beyond its storage")
        flat = self.storage.values[self.offset :]
        steps = [s * flat.itemsize for s in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False))


class _Rebuild:
    """Stands in for torch._utils._rebuild_tensor_v2. Has no attributes that a pickle could set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, *rest: Any) -> _View:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise pickle.UnpicklingError("a tensor is not made of a storage, a shape and strides")
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in numbers):
            raise pickle.UnpicklingError("the shape of a tensor is not made of whole numbers")
        return _View(storage, offset, shape, strides)


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: str


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    **{("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


@dataclass
class _Storages:
    by_key: dict[str, _Storage] = field(default_factory=dict)

    def get(self, pid: Any) -> _Storage:
        """The storage that a persistent id ('storage', type, key, device, count, view) means."""
        match pid:
            case ("storage", _StorageType() as kind, str() as key, str(), int() as count, None) if count >= 0:
                return self.by_key.setdefault(key, _Storage(np.dtype(kind.dtype), count))
        raise pickle.UnpicklingError("a reference to a storage has an unknown form")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storages: _Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which is not needed to hold tensors") from None

    def persistent_load(self, pid: Any) -> _Storage:
        return self._storages.get(pid)


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Tensors of the checkpoint at `path` by name, in its order. Raises FormatError on a damaged or a malicious file."""
    try:
        with path.open("rb") as f:
            return _read(f, path.stat().st_size)
    except OSError as e:
        raise FormatError(f"the checkpoint cannot be read: {e.strerror}", where=str(path), fix=_FIX) from e
    # a damaged pickle makes the unpickler raise nearly anything
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, OverflowError) as e:
        raise FormatError(f"the checkpoint is refused: {e}", where=str(path), fix=_FIX) from e


def _read(f: BinaryIO, size: int) -> dict[str, NDArray[Any]]:
    storages = _Storages()
    magic, protocol, types = (_Unpickler(f, _Storages()).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or types.get("little_endian") is not True:
        raise ValueError("its first bytes are not those of a little-endian PyTorch checkpoint")
    objects = _Unpickler(f, storages).load()
    keys = _Unpickler(f, storages).load()
    if not isinstance(objects, dict) or not isinstance(keys, list) or sorted(keys) != sorted(storages.by_key):
        raise ValueError("it is not a dictionary of tensors")
    _read_storages(f, size, [storages.by_key[key] for key in keys])
    for name, value in objects.items():
        if not isinstance(name, str) or not isinstance(value, _View):
            raise ValueError(f"entry {name!r} is not a tensor")
    return {name: value.array() for name, value in objects.items()}


def _read_storages(f: BinaryIO, size: int, storages: Sequence[_Storage]) -> None:
    for storage in storages:
        count = int.from_bytes(f.read(8), "little")
        nbytes = count * storage.dtype.itemsize
        if count != storage.count or nbytes > size - f.tell():
            raise ValueError("a storage is longer than the file, or not as long as the file says")
        storage.values = np.frombuffer(f.read(nbytes), storage.dtype)
