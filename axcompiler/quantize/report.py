"""What the quantize stage chose, and what that does to the outputs: `quantization.json`, for people and for the build's summary."""

import math
from collections import Counter
from dataclasses import dataclass, field

import msgspec

#: below this signal-to-noise ratio of an output, in dB, something may be wrong. The signal is only what changes from sample to sample, and
#: background counts too: a detector that loses nothing of its mAP may have 10 dB.
LOW_SQNR = 6.0


@dataclass(frozen=True)
class UnitReport:
    """A part of an output whose values have one unit. slices: how many slices of the output's `axis` it has; axis -1: all of it.

    sqnr: ratio of signal and quantization noise in dB, on the samples held out. They decided which changes stay, so it is optimistic.
    """

    output: str
    axis: int
    slices: int
    sqnr: float

    @property
    def name(self) -> str:
        """The part in words."""
        return self.output if self.axis < 0 else f"{self.output} ({self.slices} slices of axis {self.axis})"


@dataclass
class QuantizationReport:
    """What was chosen for the `tensors` that have a range of their own.

    scheme: the range scheme of those that are not in others. others: by tensor, another scheme.

    losses: by scheme, the loss of the outputs with this scheme alone, 0 to 1; loss: with what was chosen. Both empty or 0 where only
    one scheme was considered. outputs: their noise, where it was measured. runs: samples that were run through the network for this.
    unjudged: why the outputs could not be measured, '' if they could or nothing asked for it.
    """

    scheme: str = ""
    tensors: int = 0
    others: dict[str, str] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    loss: float = 0.0
    outputs: list[UnitReport] = field(default_factory=list)
    runs: int = 0
    unjudged: str = ""

    @property
    def summary(self) -> str:
        """What was chosen, as a phrase; '' if nothing was."""
        if not self.tensors:
            return ""
        counts = Counter(self.others.values())
        parts = [f"{self.scheme} for {self.tensors - len(self.others)} tensors", *(f"{s} for {n}" for s, n in sorted(counts.items()))]
        worst = min((unit.sqnr for unit in self.outputs), default=None)
        noise = "" if worst is None else f"; signal to noise of the outputs at least {worst:.1f} dB on calibration samples"
        return f"int8 ranges by {', '.join(parts)}{noise}"

    @property
    def warnings(self) -> list[str]:
        """A sentence for each output that loses suspiciously much, with what to try, or that says why that was not measured."""
        if self.unjudged:
            return [f"int8 ranges are by {self.scheme} alone, because their effect on the outputs could not be measured: {self.unjudged}"]
        low = [unit for unit in self.outputs if unit.sqnr < LOW_SQNR]
        fix = 'Try "effort": "best", or keep the layers before it in float32 ("exclude"); docs/accuracy.md says how to find them.'
        return [f"int8 loses much of output {unit.name}: signal to noise {unit.sqnr:.1f} dB on calibration samples. {fix}" for unit in low]

    def to_json(self) -> bytes:
        """The report as JSON; equal reports give equal bytes."""
        rounded = {name: round(loss, 6) for name, loss in sorted(self.losses.items())}
        document = {
            "summary": self.summary,
            "scheme": self.scheme,
            "tensors": self.tensors,
            "others": dict(sorted(self.others.items())),
            "losses": rounded,
            "loss": round(self.loss, 6),
            "outputs": [{"output": u.output, "axis": u.axis, "slices": u.slices, "sqnr": round(u.sqnr, 2)} for u in self.outputs],
            "runs": self.runs,
            "warnings": self.warnings,
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decibels(error: float) -> float:
    """The signal-to-noise ratio, in dB, of a noise that has `error` times the power of the signal; at most 100."""
    return min(-10 * math.log10(max(error, 1e-30)), 100.0)
