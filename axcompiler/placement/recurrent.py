"""Networks that carry a recurrent state from one call to the next: what int8 rounds in one call, all later calls see.

A recurrent operator whose state begins with an input of the model is such a case; one whose state begins at zero (a text line, a sentence)
starts anew in each call and is none.
"""

from collections.abc import Mapping

import onnx

from axforge.axcompiler.onnx_graph.views import ModelView, subgraphs
from axforge.axcompiler.operators import state_inputs

#: what reads the shape of a tensor only
_SHAPES = ("Shape", "Size")


def carries_state(view: ModelView) -> str:
    """The name of a node that holds a recurrent operator whose state is an input of the model, '' if there is none."""
    fed = dict.fromkeys(view.inputs, True)
    for node, proto in zip(view.nodes, view.protos, strict=True):
        if _carries(proto, fed):
            return node.name
        _outputs(proto, fed)
    return ""


def _carries(proto: onnx.NodeProto, fed: Mapping[str, bool]) -> bool:
    """fed: the values in sight that depend on an input of the model."""
    if any(fed.get(proto.input[i], False) for i in state_inputs(proto.op_type) if i < len(proto.input)):
        return True
    return any(_inside(graph, fed) for graph in subgraphs(proto))


def _inside(graph: onnx.GraphProto, outer: Mapping[str, bool]) -> bool:
    fed = {**outer, **{i.name: True for i in graph.input}}  # what a loop hands over from turn to turn is a state too
    fed |= {t.name: False for t in graph.initializer}
    for proto in graph.node:
        if _carries(proto, fed):
            return True
        _outputs(proto, fed)
    return False


def _outputs(proto: onnx.NodeProto, fed: dict[str, bool]) -> None:
    """Note for the results of a node whether they depend on an input of the model."""
    read = (*proto.input, *(name for graph in subgraphs(proto) for node in graph.node for name in node.input))
    depends = proto.op_type not in _SHAPES and any(fed.get(name, False) for name in read)
    fed.update(dict.fromkeys(proto.output, depends))
