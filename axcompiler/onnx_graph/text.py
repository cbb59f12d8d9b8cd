"""An ONNX model as text that a person can read."""

from onnx import NodeProto, helper

from axforge.axcompiler.onnx_graph.net import Net


def net_text(net: Net) -> str:
    """The model as text: inputs, then a node on each line, then outputs; shapes with every value that has a static one."""
    lines = [f"  input {_value(net, i.name)}" for i in net.inputs]
    lines += [f"  {', '.join(_value(net, o) for o in node.output if o)} = {_call(net, node)}  # {node.name}" for node in net.nodes]
    return "\n".join(["model", *lines, *(f"  output {o.name}" for o in net.outputs)]) + "\n"


def _value(net: Net, name: str) -> str:
    return f"{name}{list(net.shapes[name])}" if name in net.shapes else name


def _call(net: Net, node: NodeProto) -> str:
    given = [f"{name}{list(net.constants[name].dims)}" if name in net.constants else name for name in node.input]
    return f"{node.op_type}({', '.join([*given, *(str(helper.printable_attribute(a)) for a in node.attribute)])})"
