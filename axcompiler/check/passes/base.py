"""What the passes of the check stage share: the two forms of a model that they rewrite, and edits of constants and weights."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from axforge.axcompiler.onnx_graph.net import Net, attribute, check_order, from_model
from axforge.axcompiler.onnx_graph.text import net_text
from axforge.axcompiler.passes import Pass, PassResult, Property

F64 = NDArray[np.float64]
#: operators that give the numbers of their operand another shape or order
REARRANGES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
#: every value is made once, and before it is read
ORDERED = Property("ordered", check_order)


@dataclass(frozen=True)
class ModelPass(Pass[onnx.ModelProto]):
    """A pass on an ONNX model as the file has it."""

    @staticmethod
    def text(ir: onnx.ModelProto) -> str:
        """The model as text, a node on each line."""
        return net_text(from_model(ir))


@dataclass(frozen=True)
class NetPass(Pass[Net]):
    """A pass on the working copy of an ONNX model, which it edits in place."""

    requires: ClassVar[tuple[Property[Any], ...]] = (ORDERED,)
    ensures: ClassVar[tuple[Property[Any], ...]] = (ORDERED,)

    @abstractmethod
    def edit(self, net: Net) -> list[str]:
        """Rewrite the model, and say what was changed."""

    def apply(self, net: Net) -> PassResult[Net]:
        """Rewrite the model once."""
        notes = self.edit(net)
        if notes:
            net.values.clear()
        return PassResult(net, tuple(notes))

    @staticmethod
    def text(ir: Net) -> str:
        """The model as text, a node on each line."""
        return net_text(ir)


@dataclass(frozen=True)
class PreparingPass(NetPass):
    """A pass that runs once, before any shape is known."""


@dataclass(frozen=True)
class RepeatedPass(NetPass):
    """A pass that runs again until it changes nothing, and again when a later one has changed something.

    once: it runs once, and again only when another pass has changed something. keeps_shapes: no value is new; else the shapes must be
    inferred before the next pass. on_float: it runs on a float model. on_quantized: it runs on a model that came quantized, whose graph is
    what its maker chose.
    """

    once: ClassVar[bool] = False
    keeps_shapes: ClassVar[bool] = True
    on_float: ClassVar[bool] = True
    on_quantized: ClassVar[bool] = False


def float_constant(net: Net, name: str) -> F64 | None:
    """The value of a float32 constant, in float64; None for anything else."""
    value = net.constant(name)
    return value.astype(np.float64) if value is not None and value.dtype == np.float32 else None


def set_weights(net: Net, layer: NodeProto, weight: F64, bias: F64) -> None:
    """Give a layer another weight and bias, both float32 constants."""
    inputs = [layer.input[0], net.add_constant(f"{layer.name}_weight", weight.astype(np.float32))]
    inputs.append(net.add_constant(f"{layer.name}_bias", bias.astype(np.float32)))
    del layer.input[:]
    layer.input.extend(inputs)


def batch_norm(net: Net, node: NodeProto) -> tuple[F64, F64] | None:
    """(scale, shift) a channel of an inference BatchNormalization with constant parameters."""
    if attribute(node, "training_mode", 0) or len([o for o in node.output if o]) != 1:
        return None
    values = [float_constant(net, name) for name in node.input[1:5]]
    if any(v is None for v in values):
        return None
    gamma, beta, mean, variance = (v for v in values if v is not None)
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale
