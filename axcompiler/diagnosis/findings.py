"""What a diagnosis found, as plain data: for a table, as JSON, for the page."""

import msgspec


class Remedy(msgspec.Struct, frozen=True):
    """What could be done for a tensor. gain: what it adds to the signal-to-noise ratio of the outputs, in dB (mean of
    their units, median of the samples)."""

    what: str
    gain: float


class TensorFinding(msgspec.Struct, frozen=True):
    """A quantized tensor, with those that copy its codes.

    copies: how many these are. maker, op_type: the node that makes it. lo, hi: what its codes reach. low, high: what was seen.
    saturated: share of its values beyond lo..hi. sqnr: of its own rounding, in dB. cosine: between its values in the int8 model and in the
    float model. share: of the noise of the outputs that comes from its rounding, 0 to 1. channels, quiet: channels, and those among them
    that are 0 in every sample. edges, counts: histogram of its values. remedies: what was tried, the best first.
    """

    tensor: str
    copies: int
    maker: str
    op_type: str
    lo: float
    hi: float
    low: float
    high: float
    saturated: float
    sqnr: float
    cosine: float
    share: float
    channels: int
    quiet: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    remedies: tuple[Remedy, ...] = ()


class OutputFinding(msgspec.Struct, frozen=True):
    """A part of an output with one unit. sqnr: of int8 weights and activations, in dB; weights_sqnr: with int8 weights alone."""

    name: str
    sqnr: float
    weights_sqnr: float


class CalibrationFinding(msgspec.Struct, frozen=True):
    """How the kept calibration samples cover the ranges.

    covered: of each number of samples, the mean share of the tensors' final ranges that these have reached. extremes: of each sample, the
    number of tensors whose lowest or highest value it has.
    """

    covered: tuple[float, ...]
    extremes: tuple[int, ...]


class Diagnosis(msgspec.Struct, frozen=True):
    """The result. samples: how many were used. weights: share of the noise of the outputs that comes from rounding weights and biases.

    tensors: in the order in which they are made.
    """

    samples: int
    outputs: tuple[OutputFinding, ...]
    weights: float
    tensors: tuple[TensorFinding, ...]
    calibration: CalibrationFinding

    def worst(self, count: int) -> list[TensorFinding]:
        """The tensors with the largest shares of the noise, the largest first; of equals the first."""
        return sorted(self.tensors, key=lambda tensor: -tensor.share)[:count]

    def to_json(self) -> bytes:
        """As a JSON document, without the histograms."""
        document = msgspec.to_builtins(self)
        for tensor in document["tensors"]:
            del tensor["edges"], tensor["counts"]
        return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
