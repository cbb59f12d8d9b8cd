"""Every input gets a static shape."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import onnx
from onnx import ValueInfoProto

from axforge.axcompiler.check.passes.base import PreparingPass
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.onnx_graph.net import Net


@dataclass(frozen=True)
class PinInputs(PreparingPass):
    """Give every input a static shape: what the file says, what `pinned` says, and 1 for an unknown first axis (the batch).

    input x [N, 3, H, W]      becomes      input x [1, 3, 640, 640]

    A named dimension that is pinned in one input is pinned wherever it occurs. where: what an error names.
    """

    at: ClassVar[tuple[int, ...]] = (200,)
    pinned: Mapping[str, Sequence[int]] = field(default_factory=dict)
    where: str = ""

    def edit(self, net: Net) -> list[str]:
        """Rewrite the inputs, and say what was changed. Raises CompileError, naming input and axis."""
        before = [value.SerializeToString() for value in net.inputs]
        pin_inputs(net, self.pinned, self.where)
        return [f"input '{value.name}'" for value, old in zip(net.inputs, before, strict=True) if value.SerializeToString() != old]


def pin_inputs(net: Net, pinned: Mapping[str, Sequence[int]], where: str) -> None:
    """Give every input a static shape: what the file says, what `pinned` says, and 1 for an unknown first axis (the batch).

    A named dimension that is pinned in one input is pinned wherever it occurs. Raises CompileError, naming input and axis.
    """
    names = [i.name for i in net.inputs]
    for name in pinned:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1) or names[:1]
            raise CompileError(
                f"compile.check.input_shapes names an input '{name}', which the model does not have",
                where=where,
                fix=f"Its inputs are: {', '.join(names)}." + (f" Did you mean '{near[0]}'?" if near else ""),
            )
    symbols = _symbols(net, pinned)
    for value in net.inputs:
        if value.type.HasField("tensor_type"):
            _pin(value, pinned.get(value.name), symbols, where)


def _symbols(net: Net, pinned: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {
        dim.dim_param: int(size)
        for value in net.inputs
        if value.name in pinned
        for dim, size in zip(value.type.tensor_type.shape.dim, pinned[value.name], strict=False)
        if dim.dim_param
    }


def _pin(value: ValueInfoProto, wanted: Sequence[int] | None, symbols: Mapping[str, int], where: str) -> None:
    tensor = value.type.tensor_type
    place = f"{where}: input '{value.name}'"
    if not tensor.HasField("shape"):
        if wanted is None:
            raise CompileError("the model gives this input no shape", where=place, fix=_how(value.name, ["N", "C", "H", "W"]))
        tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=int(d)) for d in wanted)
    dims = tensor.shape.dim
    shown = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "?") for d in dims]
    if wanted is not None and len(wanted) != len(dims):
        raise CompileError(f"the model gives it {len(dims)} dimensions, compile.check.input_shapes gives {len(wanted)}", where=place)
    for axis, dim in enumerate(dims):
        known = dim.HasField("dim_value") and dim.dim_value >= 0 and not (axis == 0 and dim.dim_value == 0 and wanted)
        if known:
            if wanted is not None and wanted[axis] != dim.dim_value:
                raise CompileError(
                    f"dimension {axis} is fixed to {dim.dim_value} in the model, compile.check.input_shapes gives {wanted[axis]}",
                    where=place,
                    fix="Give the shape of the model, or export the model with dynamic dimensions.",
                )
        elif wanted is not None and wanted[axis] > 0:
            dim.dim_value = int(wanted[axis])
        elif dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]
        elif axis == 0:
            dim.dim_value = 1
        else:
            name = f" ('{dim.dim_param}')" if dim.dim_param else ""
            raise CompileError(f"dimension {axis}{name} of its shape {_text(shown)} is dynamic", where=place, fix=_how(value.name, shown))


def _text(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _how(name: str, shape: Sequence[object]) -> str:
    example = ", ".join(str(d) if isinstance(d, int) else ("1" if i == 0 else f"<{d}>") for i, d in enumerate(shape))
    shown = f'"compile": {{"check": {{"input_shapes": {{"{name}": [{example}]}}}}}}'
    option = f"--input-shape {name}={example.replace(', ', ',')}"
    return f"Pin it in model.json: {shown}, or with python -m axforge.axcompiler: {option}; a number for each <...>."
