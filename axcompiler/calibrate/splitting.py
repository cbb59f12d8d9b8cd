"""Looks at the ranges of single channels, in a few samples, and decides which tensors are parted (see `split_channels`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from axforge.axcompiler.calibrate.probe import prune, reduction
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize.algorithms import split_channels
from axforge.axcompiler.quantize.algorithms.split_channels import Chain, Splits

Array = NDArray[Any]
Sample = Mapping[str, Array]
#: runs a model on samples: for each the outputs, by name
Runner = Callable[[onnx.ModelProto, Sequence[Sample]], list[dict[str, Array]]]

#: samples that are looked at; what matters is whether ranges differ tenfold, which shows at once
SAMPLES = 4


def find(model: onnx.ModelProto, plan: Plan, chains: Sequence[Chain], samples: Sequence[Sample], run: Runner) -> Splits:
    """Groups of channels for those of `chains` that gain by them."""
    probed = _probed(model, plan, chains)
    seen = run(probed, samples)
    splits = {}
    for i, chain in enumerate(chains):
        width = _width(seen, f"{i}_operand", axis=0)
        groups = split_channels.decide(plan, chain, width, float(_width(seen, f"{i}_result", axis=0).max()))
        if len(groups) > 1:
            splits[chain.operand] = groups
    return splits


def _probed(model: onnx.ModelProto, plan: Plan, chains: Sequence[Chain]) -> onnx.ModelProto:
    """The model with the extremes of each channel of operands and results as its only outputs."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph = probed.graph
    del graph.output[:]
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for i, chain in enumerate(chains):
        for label, name in (("operand", chain.operand), ("result", chain.result)):
            for op in ("ReduceMin", "ReduceMax"):
                output = f"axforge_{i}_{label}_{op}"
                graph.node.extend(reduction(graph, op, name, output, len(plan.view.shapes[name]), opset))
                graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    prune(graph)
    return probed


def _width(seen: Sequence[Mapping[str, Array]], label: str, axis: int) -> NDArray[np.float64]:
    """Range of each channel, with 0 in it, over samples and batch: [C]. Values that are not finite count as 0."""
    lo = np.minimum(np.concatenate([s[f"axforge_{label}_ReduceMin"] for s in seen]).min(axis=axis), 0)
    hi = np.maximum(np.concatenate([s[f"axforge_{label}_ReduceMax"] for s in seen]).max(axis=axis), 0)
    return np.nan_to_num(hi.astype(np.float64) - lo, nan=0.0, posinf=0.0)
