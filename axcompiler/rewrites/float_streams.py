"""Keeps residual streams of transformers in float32 where a few channels are far larger than the others.

Trained transformers have *massive activations*: single channels, at some tokens a hundred times as large as all others (Sun et al., 2024,
"Massive Activations in Large Language Models"). One int8 scale leaves the other channels a few codes, and the normalization that follows
makes this loss as large as the signal. The sums and normalizations of such a stream run in float32; the products stay in int8.

Large values of a stream come from a few large channels between the two products of a feed-forward block, where they cost the others
their codes as well. They are computed apart, in float32, which takes as many rows of the weights as there are such channels:

    product ──► f ──► product ──► Sum      becomes      product, other channels ──► f ──► product ──► Add ──► Sum       int8
                                                        product, large channels ──► f ──► product ──┘                   float32

In float both compute the same, up to the order in which products are summed. A stream whose channels are alike stays in int8.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from axforge.axcompiler.placement.plan import Plan, make_plan
from axforge.axcompiler.placement.streams import Stream, hidden, streams, writes
from axforge.axcompiler.rewrites.base import RewritingAlgorithm, rewriting_algorithm
from axforge.axcompiler.rewrites.stream_editor import StreamEditor
from axforge.axcompiler.statistics.artefacts import Decision, Statistics
from axforge.axcompiler.statistics.base import F32, F64, StatisticPoint
from axforge.axcompiler.statistics.peaks import ChannelPeaks, levels


@rewriting_algorithm
@dataclass(frozen=True)
class FloatStreams(RewritingAlgorithm):
    """ratio: a stream stays in float32 if the largest channel of one of its tensors is so many times the median channel.

    few: share of the channels between two products that may be computed apart. gain: what that must divide their range by.
    """

    name: ClassVar[str] = "float_streams"
    on: ClassVar[bool] = True
    ratio: float = 8.0
    few: float = 1 / 32
    gain: float = 1.5

    def __post_init__(self) -> None:
        if not self.ratio > 1:
            raise ValueError(f"ratio is {self.ratio} and must be above 1")
        if not 0 <= self.few < 1:
            raise ValueError(f"few is {self.few} and must be 0 or more and below 1")
        if not self.gain > 1:
            raise ValueError(f"gain is {self.gain} and must be above 1")

    def needs(self, plan: Plan) -> Iterable[StatisticPoint]:
        """How large each channel gets, of what is normalized and what comes of it, and between two products."""
        between = [h.tensor for s in streams(plan) for w in writes(plan, s) if (h := hidden(plan, w)) is not None]
        names = [*(name for stream in streams(plan) for name in _normalized(plan, stream)), *between]
        return [StatisticPoint(name, ChannelPeaks()) for name in dict.fromkeys(names)]

    def decide(self, plan: Plan, statistics: Statistics) -> Decision:
        """The results of the normalizations whose stream is kept in float32, with nothing, and by the tensor between two products the
        channels that are computed apart.
        """
        peaks = statistics.channels.get(ChannelPeaks.name, {})
        decision: dict[str, list[list[int]]] = {}
        for stream in streams(plan):
            largest = max((float(levels(peaks[name].astype(np.float64)).max()) for name in _normalized(plan, stream)), default=0.0)
            if largest < np.log2(self.ratio):
                continue
            decision |= {plan.parts[k].outputs[0]: [] for k in stream.norms}
            for write in writes(plan, stream):
                between = hidden(plan, write)
                large = self._large(peaks[between.tensor]) if between is not None else []
                if between is not None and large:
                    decision[between.tensor] = [large]
        return decision

    def _large(self, peaks: F32 | F64) -> list[int]:
        """The few channels without which the range is much narrower: another one is worth it if it takes away a tenth more."""
        order = np.argsort(-peaks, kind="stable")
        count, narrow = 0, float(peaks[order[0]])
        for k in range(1, int(self.few * len(order)) + 1):
            left = float(peaks[order[k]])
            if left < narrow * 0.9 ** (k - count):
                count, narrow = k, left
        return sorted(int(c) for c in order[:count]) if float(peaks[order[0]]) >= self.gain * narrow else []

    def rewrite(self, model: onnx.ModelProto, decision: Decision) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
        """The model with its streams in float32, and the nodes that were doubled."""
        plan = make_plan(model)
        editor, left = StreamEditor(model, plan), dict(decision)
        for stream in streams(plan):
            named = [plan.parts[k].outputs[0] for k in stream.norms if plan.parts[k].outputs[0] in left]
            if not named:
                continue
            editor.to_float(stream)
            for write in writes(plan, stream):
                between = hidden(plan, write)
                for channels in left.pop(between.tensor, []) if between is not None else []:
                    assert between is not None
                    editor.apart(write, between, channels)
            for name in named:
                del left[name]
        if left:
            raise KeyError(next(iter(left)))
        return editor.finish(), editor.parts


def _normalized(plan: Plan, stream: Stream) -> list[str]:
    """What the normalizations of a stream read and make, as far as its shape is known."""
    names = (name for k in stream.norms for name in (plan.parts[k].inputs[0], plan.parts[k].outputs[0]))
    return [name for name in names if plan.view.shapes.get(name) and plan.view.dtypes.get(name) == "float32"]
