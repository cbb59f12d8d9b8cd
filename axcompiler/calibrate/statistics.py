"""What calibration knows of each tensor, and the two artefacts that hold it."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from axforge.axcompiler import container
from axforge.axcompiler.calibrate.histogram import Histogram
from axforge.axcompiler.errors import CompileError


@dataclass
class Range:
    """lo, hi: exact extremes over the samples it was measured in, in real numbers. histogram: of a fixed share of the values."""

    lo: float
    hi: float
    histogram: Histogram


@dataclass
class Statistics:
    """samples: how many were seen. ranges: by tensor. means: of each channel of tensors that layers multiply, by tensor.

    masked: tensors that hold minus infinity, as attention masks do; they cannot be int8. splits: groups of channels, by the
    tensor that is parted (see `quantize/algorithms/split_channels.py`); all else is of the model that comes of it.
    """

    samples: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    means: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    masked: set[str] = field(default_factory=set)
    splits: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)


def save(statistics: Statistics, out: Path) -> None:
    """Write ranges.json (exact extremes, for people too) and histograms.npz; equal statistics give equal bytes."""
    ranges = {name: {"min": r.lo, "max": r.hi} for name, r in sorted(statistics.ranges.items())}
    document = {
        "samples": statistics.samples,
        "masked": sorted(statistics.masked),
        "splits": dict(sorted(statistics.splits.items())),
        "tensors": ranges,
        "means": sorted(statistics.means),
    }
    container.write_atomic(out / "ranges.json", (json.dumps(document, indent=1) + "\n").encode())
    histograms = [r.histogram for _, r in sorted(statistics.ranges.items())]
    arrays = {
        "bins": np.asarray([h.bins for h in histograms], np.int64),
        "exponent": np.asarray([h.exponent for h in histograms], np.int64),
        "first": np.asarray([h.first for h in histograms], np.int64),
        "length": np.asarray([len(h.counts) for h in histograms], np.int64),
        "counts": np.concatenate([np.zeros(0, np.int64), *(h.counts for h in histograms)]),
        "means": np.concatenate([np.zeros(0, np.float32), *(m for _, m in sorted(statistics.means.items()))]),
        "channels": np.asarray([len(m) for _, m in sorted(statistics.means.items())], np.int64),
    }
    container.write_atomic(out / "histograms.npz", npz_bytes(arrays))


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An .npz as np.load reads it, without the time of day in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted(arrays.items()):
            member = io.BytesIO()
            npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            archive.writestr(info, member.getvalue(), compresslevel=1)
    return buffer.getvalue()


def load(ranges: Path, histograms: Path) -> Statistics:
    """What `save` wrote. Raises CompileError if the two files are damaged or do not belong together."""
    try:
        document = json.loads(ranges.read_bytes())
        with np.load(histograms, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _assemble(document, arrays)
    except (ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, EOFError) as e:
        raise CompileError(f"the calibration results are damaged ({e})", where=ranges.name, fix="Run the calibrate stage again.") from e


def _assemble(document: Any, arrays: Mapping[str, NDArray[Any]]) -> Statistics:
    names = list(document["tensors"])
    if not len(names) == len(arrays["length"]) == len(arrays["exponent"]) or len(document["means"]) != len(arrays["channels"]):
        raise ValueError("ranges.json and histograms.npz name different tensors")
    counts = np.split(arrays["counts"], np.cumsum(arrays["length"])[:-1]) if names else []
    out = Statistics(int(document["samples"]), masked=set(document["masked"]))
    out.splits = {name: tuple(tuple(int(c) for c in group) for group in groups) for name, groups in document["splits"].items()}
    for i, name in enumerate(names):
        h = Histogram(int(arrays["bins"][i]), int(arrays["exponent"][i]), int(arrays["first"][i]), counts[i].astype(np.int64))
        out.ranges[name] = Range(float(document["tensors"][name]["min"]), float(document["tensors"][name]["max"]), h)
    means = np.split(arrays["means"], np.cumsum(arrays["channels"])[:-1]) if document["means"] else []
    out.means = dict(zip(document["means"], means, strict=True))
    return out
