"""Means of channels from sampled values."""

import numpy as np
from numpy.typing import NDArray

from axforge.axcompiler.calibrate.probe import Probe


class ChannelMeans:
    """Mean of each channel (axis `axis` of `shape`) over the values that a probe samples."""

    def __init__(self, shape: tuple[int, ...], axis: int, probe: Probe) -> None:
        rows = int(np.prod(shape)) // probe.row
        position = (np.arange(0, rows, probe.stride)[:, None] * probe.row + np.arange(probe.row)).reshape(-1)
        channel = position // int(np.prod(shape[axis + 1 :])) % shape[axis]
        # where neighbours have the same channel nearly always, sums of runs are much faster than sums by index
        self._starts = np.flatnonzero(np.diff(channel, prepend=-1))
        self._channel = channel[self._starts]
        self._sum = np.zeros(shape[axis])
        self._count = np.bincount(channel, minlength=shape[axis])
        self._samples = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the sampled values of one sample."""
        runs = np.add.reduceat(values, self._starts)
        self._sum += np.bincount(self._channel, weights=runs, minlength=len(self._sum))
        self._samples += 1

    def mean(self) -> NDArray[np.float32]:
        """The means; 0 for a channel that no sampled row lies in."""
        return (self._sum / np.maximum(self._count * self._samples, 1)).astype(np.float32)
