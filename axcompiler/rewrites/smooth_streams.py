"""Factors of channels for what crosses between a residual stream in float32 and products in int8, which the weights take up.

    product ──► Sum ──► Norm ──┬──► product      becomes      product / s ──► Mul s ──► Sum ──► Norm ──┬──► Mul 1/t ──► product * t
                               └──► Sum                            int8   │             float32        └──► Sum     │      int8

A tensor has one int8 scale, so its channels should fill the same range; the weights of a product have a scale for each channel that
it makes, and lose nothing by s; what they lose by t is weighed against what the operand gains (Xiao et al., 2023, "SmoothQuant"). The
factors are powers of two: no number of the float model is rounded differently, and its results stay what they were, bit for bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.placement.streams import Read, Write, reads, streams, writes
from axforge.axcompiler.rewrites.base import RewritingAlgorithm, rewriting_algorithm
from axforge.axcompiler.rewrites.equalize import SHARES, WORTH, noise_of
from axforge.axcompiler.rewrites.stream_editor import StreamEditor, matrix
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import F64, StatisticPoint
from axforge.axcompiler.statistics.peaks import ChannelPeaks, levels

#: exponent of the smallest factor
SMALLEST = -2


@rewriting_algorithm
@dataclass(frozen=True)
class SmoothStreams(RewritingAlgorithm):
    """limit: largest factor between channels."""

    name: ClassVar[str] = "smooth_streams"
    on: ClassVar[bool] = True
    limit: float = 256.0

    def __post_init__(self) -> None:
        if not self.limit >= 1:
            raise ValueError(f"limit is {self.limit} and must be at least 1")

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """How large each channel gets, of what crosses between a stream in float32 and a product."""
        found = [*(read.tensor for read in _reads(plan)), *(_made(plan, write) for write in _writes(plan))]
        return [StatisticPoint(name, ChannelPeaks()) for name in dict.fromkeys(found)]

    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """Exponents of the factors, by the result of a normalization, and by the result of a product that a stream reads."""
        peaks = {name: found.astype(np.float64) for name, found in statistics.channels.get(ChannelPeaks.name, {}).items()}
        read = {read.tensor: self._for_read(plan, read, peaks[read.tensor]) for read in _reads(plan)}
        written = {name: self._for_write(peaks[name]) for name in (_made(plan, write) for write in _writes(plan))}
        return {name: [exponents] for name, exponents in (read | written).items() if any(exponents)}

    def _for_write(self, peaks: F64) -> list[int]:
        """What makes the channels above the others like them."""
        return [int(e) for e in np.clip(np.rint(levels(peaks)), 0, np.floor(np.log2(self.limit)))]

    def _for_read(self, plan: Plan, read: Read, peaks: F64) -> list[int]:
        """What leaves the least noise of operand and weights together; zeros if none is much better than that."""
        weight = np.concatenate([matrix(plan, layer) for layer in read.layers]).astype(np.float64)[:, :, None]
        best = np.zeros(len(peaks), np.int64)
        least = WORTH * noise_of(weight, peaks, best, False)
        for share in SHARES:
            exponents = np.clip(np.rint(share * levels(peaks)), SMALLEST, np.floor(np.log2(self.limit))).astype(np.int64)
            noise = noise_of(weight, peaks, exponents, False)
            if noise < least:
                least, best = noise, exponents
        return [int(e) for e in best]

    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The model with scaled weights; its nodes keep their names."""
        plan = make_plan(model)
        editor, left = StreamEditor(model, plan), dict(decision)
        for read in _reads(plan):
            for exponents in left.pop(read.tensor, []):
                editor.read(read, exponents)
        for write in _writes(plan):
            for exponents in left.pop(_made(plan, write), []):
                editor.write(write, exponents)
        if left:
            raise KeyError(next(iter(left)))
        return editor.finish(), editor.parts


def _reads(plan: Plan) -> Iterator[Read]:
    """What products on the AIPU read of normalizations elsewhere."""
    found = (read for stream in streams(plan) for read in reads(plan, stream))
    return (read for read in found if plan.maker[read.tensor] not in plan.aipu)


def _writes(plan: Plan) -> Iterator[Write]:
    """What products on the AIPU write to units elsewhere."""
    found = (write for stream in streams(plan) for write in writes(plan, stream))
    return (write for write in found if write.reader not in plan.aipu)


def _made(plan: Plan, write: Write) -> str:
    return plan.parts[write.layer].outputs[0]
