"""What calibration knows of each tensor, with the samples that it kept, and the three artefacts that hold it."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from axforge.axcompiler import container
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.statistics.base import F32, F64, Range
from axforge.axcompiler.statistics.channels import ChannelMeans
from axforge.axcompiler.statistics.examples import Example, packed, unpacked
from axforge.axcompiler.statistics.histogram import Histogram

MEANS = ChannelMeans.name
_Number = TypeVar("_Number", bound=np.generic)


#: what an algorithm that rewrites the float model decided: lists of integers by tensor name, as they are written to JSON
Decision = Mapping[str, Sequence[Sequence[int]]]
#: name of the algorithm whose decision has had a key of its own in ranges.json from the start
SPLITS = "split_channels"


@dataclass
class Statistics:
    """samples: how many were seen. ranges: by tensor. channels: results of all other statistics, by their name and then by tensor.

    masked: tensors that hold minus infinity, as attention masks do; they cannot be int8. saturated: tensors on the
    way to a softmax that hold finite masks, which are not in their ranges. decisions: by the name of an algorithm
    that rewrites the float model, how it did; everything else is measured on the rewritten model. examples: some of the samples.
    """

    samples: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    channels: dict[str, dict[str, F32 | F64]] = field(default_factory=dict)
    masked: set[str] = field(default_factory=set)
    saturated: set[str] = field(default_factory=set)
    decisions: dict[str, Decision] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)


class _Extremes(msgspec.Struct):
    """Of one tensor in ranges.json."""

    min: float
    max: float


class _Document(msgspec.Struct):
    """ranges.json as it is read."""

    samples: int
    masked: list[str]
    splits: dict[str, list[list[int]]]
    tensors: dict[str, _Extremes]
    means: list[str]
    channels: dict[str, list[str]] = {}
    decisions: dict[str, dict[str, list[list[int]]]] = {}
    saturated: list[str] = []


def save(statistics: Statistics, out: Path) -> None:
    """Write ranges.json (exact extremes, for people too), histograms.npz and samples.npz; equal statistics give equal bytes."""
    means = statistics.channels.get(MEANS, {})
    document: dict[str, object] = {
        "samples": statistics.samples,
        "masked": sorted(statistics.masked),
        "splits": dict(sorted(statistics.decisions.get(SPLITS, {}).items())),
        "tensors": {name: {"min": r.lo, "max": r.hi} for name, r in sorted(statistics.ranges.items())},
        "means": sorted(means),
    }
    others = {kind: arrays for kind, arrays in sorted(statistics.channels.items()) if kind != MEANS}
    decisions = {name: d for name, d in sorted(statistics.decisions.items()) if name != SPLITS}
    document |= {"saturated": sorted(statistics.saturated)} if statistics.saturated else {}
    document |= {"channels": {kind: sorted(arrays) for kind, arrays in others.items()}} if others else {}
    document |= {"decisions": {name: dict(sorted(d.items())) for name, d in decisions.items()}} if decisions else {}
    container.write_atomic(out / "ranges.json", (json.dumps(document, indent=1) + "\n").encode())
    arrays = _histograms(statistics) | {"means": _flat(means, np.float32), "channels": _lengths(means)}
    for kind, measured in others.items():
        arrays |= {f"{kind}.values": _flat(measured, np.float64), f"{kind}.length": _lengths(measured)}
    container.write_atomic(out / "histograms.npz", npz_bytes(arrays))
    container.write_atomic(out / "samples.npz", npz_bytes(packed(statistics.examples)))


def _histograms(statistics: Statistics) -> dict[str, NDArray[np.generic]]:
    histograms = [r.histogram for _, r in sorted(statistics.ranges.items())]
    return {
        "bins": np.asarray([h.bins for h in histograms], np.int64),
        "exponent": np.asarray([h.exponent for h in histograms], np.int64),
        "first": np.asarray([h.first for h in histograms], np.int64),
        "length": np.asarray([len(h.counts) for h in histograms], np.int64),
        "counts": np.concatenate([np.zeros(0, np.int64), *(h.counts for h in histograms)]),
    }


def _flat(measured: Mapping[str, F32 | F64], dtype: type[np.float32] | type[np.float64]) -> NDArray[np.generic]:
    return np.concatenate([np.zeros(0, dtype), *(m.astype(dtype) for _, m in sorted(measured.items()))])


def _lengths(measured: Mapping[str, F32 | F64]) -> NDArray[np.generic]:
    return np.asarray([len(m) for _, m in sorted(measured.items())], np.int64)


def npz_bytes(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
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


def load(ranges: Path, histograms: Path, samples: Path) -> Statistics:
    """What `save` wrote. Raises CompileError if the files are damaged or do not belong together."""
    try:
        document = msgspec.json.decode(ranges.read_bytes(), type=_Document)
        statistics = _assemble(document, _arrays(histograms))
        statistics.examples = unpacked(_arrays(samples))
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, EOFError) as e:
        raise CompileError(f"the calibration results are damaged ({e})", where=ranges.name, fix="Run the calibrate stage again.") from e
    return statistics


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _assemble(document: _Document, arrays: Mapping[str, NDArray[np.generic]]) -> Statistics:
    names = list(document.tensors)
    if not len(names) == len(arrays["length"]) == len(arrays["exponent"]):
        raise ValueError("ranges.json and histograms.npz name different tensors")
    out = Statistics(document.samples, masked=set(document.masked), decisions={**document.decisions, SPLITS: document.splits})
    out.saturated = set(document.saturated)
    counts = _split(arrays["counts"], arrays["length"])
    for i, name in enumerate(names):
        h = Histogram(int(arrays["bins"][i]), int(arrays["exponent"][i]), int(arrays["first"][i]), counts[i].astype(np.int64))
        out.ranges[name] = Range(document.tensors[name].min, document.tensors[name].max, h)
    means = zip(document.means, _split(arrays["means"], arrays["channels"]), strict=True)
    out.channels[MEANS] = {tensor: mean.astype(np.float32) for tensor, mean in means}
    for kind, tensors in document.channels.items():
        numbers = zip(tensors, _split(arrays[f"{kind}.values"], arrays[f"{kind}.length"]), strict=True)
        out.channels[kind] = {tensor: values.astype(np.float64) for tensor, values in numbers}
    return out


def _split(flat: NDArray[_Number], lengths: NDArray[np.generic]) -> list[NDArray[_Number]]:
    """The arrays of the given lengths that were written one after another."""
    return np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
