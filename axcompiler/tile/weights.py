"""Which graph constants go to CONST in the array's order, and where."""

from axforge.axcompiler.numerics import Array
from axforge.axcompiler.program import NONE, Space, WeightImage, image_size
from axforge.axcompiler.tile.emit import ProgramEmitter


class Weights:
    """Weight images in the order they are asked for; offsets count from the end of the parameters until `finish`."""

    def __init__(self, emitter: ProgramEmitter) -> None:
        self._emitter = emitter
        self._size = 0
        self._rows: dict[WeightImage, int] = {}

    def add(self, name: str, value: Array, form: str, groups: int = 1, fold: int = 1, channels: int = 0) -> int:
        """Buffer of the image; the same image is stored once."""
        key = WeightImage(name, 0, form, groups, fold, channels)
        if key not in self._rows:
            size = max(1, image_size(value.shape, key))
            self._rows[key] = self._emitter.buffer(Space.CONST, self._size, size, 0, NONE)
            self._size += self._emitter.aligned(size)
        return self._rows[key]

    def finish(self, buffers: Array) -> tuple[tuple[WeightImage, ...], int]:
        """Images with their final offsets (written into the table `buffers`), and the size of CONST."""
        base = len(self._emitter.constants())
        images = []
        for key, row in self._rows.items():
            buffers[row]["offset"] += base
            offset = int(buffers[row]["offset"])
            images.append(WeightImage(key.constant, offset, key.form, key.groups, key.fold, key.channels))
        return tuple(images), base + self._size
