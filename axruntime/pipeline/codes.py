"""A network's output as int8 codes, so that a decoder can choose its candidates among integers. Light to import."""

from collections.abc import Callable, Mapping

import msgspec

from axforge.axruntime.lazy import Array, np


class Codes(msgspec.Struct, frozen=True):
    """A quantized output: values int8, of which the real numbers are (values - zero_point) * scale."""

    values: Array
    scale: float
    zero_point: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.values.ndim

    def real(self) -> Array:
        """The real numbers, float32: those that the engine gives when it is asked for them."""
        from axforge.axcompiler import numerics  # loads NumPy, which reading a model.json does not need

        return numerics.dequantize(self.values, self.scale, self.zero_point)


#: What rounding in float32 may change in a probability.
_ROUNDING = 1e-5

#: A network's output, real or as codes.
Output = Array | Codes
RawOutputs = Mapping[str, Output]


def view(output: Output, change: Callable[[Array], Array]) -> Output:
    """An output of which `change` takes a part, or moves axes."""
    return msgspec.structs.replace(output, values=change(output.values)) if isinstance(output, Codes) else change(output)


def real(output: Output) -> Array:
    """The real numbers of an output, float32."""
    return output.real() if isinstance(output, Codes) else output


def real_part(output: Output, change: Callable[[Array], Array]) -> Array:
    """The real numbers of the part of an output that `change` takes, or whose axes it moves; only these are dequantized."""
    return real(view(output, change))


def best(output: Output, axis: int) -> Output:
    """The largest number along an axis, not counting what is not a number."""
    return view(output, lambda values: np.fmax.reduce(values, axis=axis))


def reaching(output: Output, score: Callable[[Array], Array], threshold: float) -> Array:
    """Where `score`, a function that rises, of each number is at least `threshold`: bool of the output's shape.

    Of codes, the lowest that reaches it is found once, and integers are compared.
    """
    if not isinstance(output, Codes):
        return np.asarray(score(output) >= threshold)
    every = np.arange(-128, 128, dtype=np.int16)
    reached = score(msgspec.structs.replace(output, values=every.astype(np.int8)).real()) >= threshold
    return output.values >= every[reached].min(initial=128)  # 128: no code reaches it


def difference_reaching(first: Output, second: Output, score: Callable[[Array], Array], threshold: float) -> Array:
    """Where `score`, a function that rises and gives probabilities, of `first` - `second` may reach the threshold: bool, never too few.

    Differences of codes of one scale are compared as integers. A code less than needed still counts, because the real numbers are
    rounded before they are subtracted; whoever asks compares the scores of what is left.
    """
    if not isinstance(first, Codes) or not isinstance(second, Codes) or _quantization(first) != _quantization(second):
        return np.asarray(score(real(first) - real(second)) >= threshold - _ROUNDING)
    every = np.arange(-255, 256, dtype=np.int16)
    reached = score(every.astype(np.float32) * np.float32(first.scale)) >= threshold - _ROUNDING
    return np.asarray(first.values.astype(np.int16) - second.values >= every[reached].min(initial=256) - 1)


def _quantization(codes: Codes) -> tuple[float, int]:
    return codes.scale, codes.zero_point
