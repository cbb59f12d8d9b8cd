"""Real numbers of quantized outputs, before the step that reads them."""

from typing import Annotated

from msgspec import Meta

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, np
from axforge.axruntime.pipeline.codes import Codes, Output, RawOutputs, real
from axforge.axruntime.pipeline.step import OutputStep, register
from axforge.axruntime.results.tensors import Tensors

Axes = Annotated[tuple[Annotated[int, Meta(ge=0, le=15)], ...], Meta(min_length=1)]
Scale = Annotated[float, Meta(gt=0, le=3.4028234663852886e38)]


@register
class TransformDequantize(OutputStep, frozen=True, tag="transform_dequantize"):
    """Makes real numbers, float32, of quantized outputs: (code - zero_point) * scale, with axes in another order if wanted.

    Decoders do this themselves, most of them only for what may be an answer; with this step first it is done for all of it.

    outputs: names of those to change, all if empty. scale, zero_point: for outputs that the graph itself gives as 8-bit integers, of
    which no manifest says them; those of a compiled model come from its manifest.json, and others here are an error. transpose: the order
    of the output's axes: [0, 3, 1, 2] makes NCHW of NHWC.
    """

    takes = "any outputs"
    gives = Tensors

    outputs: tuple[str, ...] = ()
    scale: Scale | None = None
    zero_point: Annotated[int, Meta(ge=-128, le=255)] | None = None
    transpose: Axes | None = None

    def changed(self, outputs: RawOutputs) -> RawOutputs:
        missing = [name for name in self.outputs if name not in outputs]
        if missing:
            raise self._mistake(f"the network has no output '{missing[0]}'", f"Its outputs are: {', '.join(outputs)}.")
        return {name: self._real(name, value) if name in (self.outputs or outputs) else value for name, value in outputs.items()}

    def _real(self, name: str, output: Output) -> Array:
        if isinstance(output, Codes):
            self._agrees(name, output)
        return self._transposed(name, real(output if isinstance(output, Codes) else self._of_integers(name, output)))

    def _agrees(self, name: str, codes: Codes) -> None:
        for what, given, known in (("scale", self.scale, codes.scale), ("zero_point", self.zero_point, codes.zero_point)):
            if given is not None and np.float32(given) != np.float32(known):
                raise self._mistake(f"`{what}` is {given}, and manifest.json says {known} for output '{name}'", f"Leave `{what}` out.")

    def _of_integers(self, name: str, values: Array) -> Array:
        if values.dtype not in (np.int8, np.uint8):
            return values
        if self.scale is None or self.zero_point is None:
            raise self._mistake(f"output '{name}' has type {values.dtype}, and no scale is known for it", "Give `scale` and `zero_point`.")
        return (values.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def _transposed(self, name: str, values: Array) -> Array:
        if self.transpose is None:
            return values
        if sorted(self.transpose) != list(range(values.ndim)):
            what = f"`transpose` is {list(self.transpose)}, which is not an order of the {values.ndim} axes of output '{name}'"
            raise self._mistake(what, f"Its shape is {list(values.shape)}.")
        return values.transpose(self.transpose)

    def _mistake(self, what: str, fix: str) -> AxforgeError:
        return AxforgeError(what, where=f"postprocessing: {self.tag()}", fix=fix)
