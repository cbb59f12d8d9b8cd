"""What the rewrites of quantized operators share: a draft of the nodes that replace one of them.

a, s_a, z_a ──┐                               a ── DQ ──┐
              QLinearAdd ── y      becomes              Add ── Q ── y
b, s_b, z_b ──┘                               b ── DQ ──┘
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from axforge.axcompiler.names import Names
from axforge.axcompiler.numerics import Array
from axforge.axcompiler.onnx_graph.net import Net
from axforge.axcompiler.registry import Registry

MICROSOFT = "com.microsoft"
#: element types of quantized activations and weights
CODES = (np.dtype(np.uint8), np.dtype(np.int8))


class Unreadable(Exception):
    """The operator is used in a way that Q and DQ cannot express; the message says which."""


@dataclass(frozen=True)
class IntegerTensor:
    """Names of a tensor of codes, of its scale and of its zero point ('' where there is none: 0)."""

    tensor: str
    scale: str
    zero: str = ""


class FloatForm:
    """The nodes that replace `node`, under construction. net is changed only in its constants, and by `commit` in its nodes."""

    def __init__(self, net: Net, node: NodeProto, names: Names, real: dict[IntegerTensor, str]) -> None:
        """names: every name of a value or a node of `net`. real: the dequantized tensors that earlier drafts made."""
        self.net, self.node, self.names = net, node, names
        self.nodes: list[NodeProto] = []
        self._real, self._added = real, dict[IntegerTensor, str]()

    def commit(self) -> list[NodeProto]:
        """The nodes; what they dequantized may be used by later drafts."""
        self._real.update(self._added)
        return self.nodes

    def code(self, first: int) -> IntegerTensor:
        """Inputs `first` to `first + 2` of the node: codes, scale, zero point."""
        return IntegerTensor(self.given(first), self.given(first + 1), self.given(first + 2))

    def given(self, i: int) -> str:
        """Input i of the node, '' if it is left out."""
        return str(self.node.input[i]) if i < len(self.node.input) else ""

    def constant(self, wanted: str, value: Array) -> str:
        """A new constant; its name."""
        return self.net.add_constant(self.names.fresh(wanted), value)

    def value(self, name: str, what: str) -> Array:
        """The value of a constant. Raises Unreadable if it is none."""
        found = self.net.constant(name)
        if found is None:
            raise Unreadable(f"its {what} is not constant")
        return found

    def add(self, op_type: str, inputs: Sequence[str], hint: str, name: str = "", **attributes: Any) -> str:
        """Append a node with one result, named after `hint`; the result."""
        result = self.names.fresh(hint)
        self.nodes.append(helper.make_node(op_type, list(inputs), [result], name or self.names.fresh(f"{op_type}_{result}"), **attributes))
        return result

    def finish(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Append the node that makes the result of the replaced node itself, float32."""
        name = self.node.name if not any(n.name == self.node.name for n in self.nodes) else self.names.fresh(f"{self.node.name}_{op_type}")
        self.nodes.append(helper.make_node(op_type, list(inputs), list(self.node.output[:1]), name, **attributes))

    def real(self, code: IntegerTensor, axis: int | None = None) -> str:
        """The dequantized tensor. axis: of the scales, where there are several."""
        scale = self.value(code.scale, "scale")
        if scale.dtype != np.float32:
            raise Unreadable(f"its scale is {scale.dtype.name}, not float32")
        if scale.size > 1 and axis is None:
            raise Unreadable("an activation has several scales")
        known = {**self._real, **self._added}.get(code)
        if known is None:
            zero = self.zero_point(code.zero, scale)
            at: dict[str, Any] = {"axis": axis} if scale.size > 1 else {}
            flat = self._flat(code.scale, scale)
            known = self.add("DequantizeLinear", [code.tensor, flat, *([zero] if zero else [])], f"{code.tensor}_real", **at)
            self._added[code] = known
        return known

    def _flat(self, name: str, scale: Array) -> str:
        """The scale as a number, or as one axis of numbers."""
        wanted = scale.reshape(()) if scale.size == 1 else scale.reshape(-1)
        return name if wanted.shape == scale.shape else self.constant(f"{name}_flat", wanted)

    def zero_point(self, name: str, scale: Array) -> str:
        """A zero point in the shape of its scale; '' if there is none."""
        if not name:
            return ""
        zero = self.value(name, "zero point")
        if zero.size not in (1, scale.size):
            raise Unreadable("it has another number of zero points than of scales")
        shape = () if scale.size == 1 else (scale.size,)
        wanted = np.ascontiguousarray(np.broadcast_to(zero.reshape(-1) if zero.size > 1 else zero.reshape(()), shape))
        return name if zero.shape == shape else self.constant(f"{name}_flat", wanted)

    def quantize(self, real: str, scale: str, zero: str, target: str) -> None:
        """Append the QuantizeLinear that makes the codes `target` of the tensor `real`."""
        value = self.value(scale, "scale of the result")
        if value.size != 1 or value.dtype != np.float32:
            raise Unreadable("the scale of its result is not one float32 number")
        flat = self.zero_point(zero or self._zero_like(), value)
        inputs = [real, self._flat(scale, value), flat]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [target], self.names.fresh(f"QuantizeLinear_{target}")))

    def result(self, real: str, at: int) -> None:
        """Let `real`, quantized with the scale and the zero point in inputs `at` and `at + 1`, be the result of the node."""
        self.quantize(real, self.given(at), self.given(at + 1), self.node.output[0])

    def requantized(self, real: str, scale: str, zero: str) -> str:
        """`real` after a QuantizeLinear and a DequantizeLinear."""
        codes = self.names.fresh(f"{real}_codes")
        self.quantize(real, scale, zero, codes)
        return self.real(IntegerTensor(codes, scale, zero or self._zero_like()))

    def _zero_like(self) -> str:
        """A zero point 0 of the element type that the other zero points of the node, or else uint8, have."""
        kinds = [v.dtype for name in self.node.input if (v := self.net.constant(name)) is not None and v.dtype in CODES]
        return self.constant(f"{self.node.name}_zero", np.zeros((), kinds[0] if kinds else np.uint8))

    def attributes(self, *without: str) -> dict[str, Any]:
        """The attributes of the node but for those of onnxruntime alone."""
        return {a.name: helper.get_attribute_value(a) for a in self.node.attribute if a.name not in without}


Rewrite = Callable[[FloatForm], None]
#: by domain ('' for ONNX) and operator: appends to the draft what computes the same. May raise Unreadable
REWRITES: Registry[tuple[str, str], Rewrite] = Registry("rewrite of a quantized operator")
