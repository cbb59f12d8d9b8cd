"""A few of the calibration samples, kept whole: what a choice does to the outputs of the network is judged on them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
#: an array for each input of the model, by its name
Example = dict[str, Array]

#: samples kept, of few or small inputs
MOST = 16
#: samples kept at least, of inputs of any size
LEAST = 4
#: the inputs of all kept samples together, before they are packed
MAX_BYTES = 64 << 20


class Examples:
    """Keeps samples that are spread evenly over all that come, however many these are: each `stride`-th, with a stride that doubles."""

    def __init__(self) -> None:
        self._stride, self._most = 1, MOST
        self._kept: list[Example] = []

    def add(self, i: int, sample: Mapping[str, Array]) -> None:
        """Take in sample number `i` (0, 1, 2, ...); its arrays are copied if they are kept."""
        if i == 0:
            size = sum(value.nbytes for value in sample.values())
            self._most = max(LEAST, min(MOST, MAX_BYTES // max(size, 1)))
        if i % self._stride:
            return
        if len(self._kept) == self._most:
            self._kept, self._stride = self._kept[::2], 2 * self._stride
            if i % self._stride:
                return
        self._kept.append({name: np.array(value) for name, value in sample.items()})

    def result(self) -> list[Example]:
        """The samples that are kept now, in the order in which they came."""
        return self._kept


def packed(examples: list[Example]) -> dict[str, Array]:
    """The examples as arrays by name, to be written to an .npz. Pixels have few different values: such arrays become indices of them."""
    arrays: dict[str, Array] = {"inputs": np.asarray(sorted(examples[0]) if examples else [], np.str_)}
    for k, name in enumerate(arrays["inputs"]):
        for i, example in enumerate(examples):
            value = example[str(name)]
            known = np.unique(value) if value.dtype == np.float32 else np.zeros(0)
            if 0 < len(known) <= 1 << 8 and not np.isnan(known).any() and _signs_agree(value):
                arrays[f"{i}.{k}.known"], arrays[f"{i}.{k}.index"] = known, np.searchsorted(known, value).astype(np.uint8)
            else:
                arrays[f"{i}.{k}"] = value
    return arrays


def _signs_agree(value: Array) -> bool:
    """Whether no zero is negative, which a list of different values does not tell from zero."""
    return not bool(np.signbit(value[value == 0]).any())


def unpacked(arrays: Mapping[str, Array]) -> list[Example]:
    """What `packed` made the arrays of. Raises KeyError, IndexError or ValueError for arrays that it did not make."""
    names = [str(name) for name in arrays["inputs"]]
    examples: list[Example] = []
    while names and (f"{len(examples)}.0" in arrays or f"{len(examples)}.0.index" in arrays):
        i = len(examples)
        examples.append({name: _value(arrays, f"{i}.{k}") for k, name in enumerate(names)})
    return examples


def _value(arrays: Mapping[str, Array], key: str) -> Array:
    if key in arrays:
        return arrays[key]
    value: Array = arrays[f"{key}.known"][arrays[f"{key}.index"]]
    return value
