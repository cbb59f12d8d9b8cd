"""Calls of a model's own functions are replaced by the bodies."""

from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnx import inliner

from axforge.axcompiler.check.passes.base import ModelPass
from axforge.axcompiler.passes import PassResult


@dataclass(frozen=True)
class InlineFunctions(ModelPass):
    """Put the bodies of the model's own functions in place of their calls.

    x ── call of f ── y      becomes      x ── nodes of f ── y
    """

    at: ClassVar[tuple[int, ...]] = (120,)

    def apply(self, model: onnx.ModelProto) -> PassResult[onnx.ModelProto]:
        """Rewrite the model once."""
        if not model.functions:
            return PassResult(model)
        return PassResult(inliner.inline_local_functions(model), tuple(f"inlined '{f.name}'" for f in model.functions))
