"""The fused int8 graph: the types every stage after `quantize`, and every engine, shares.

A `Graph` is immutable. Shapes are logical and follow ONNX (images are N, C, H, W); how an engine lays a tensor
out in memory is its own business. Arithmetic is defined in `numerics.py`.

Constants (weights, tables, index lists) are in `Graph.constants`, named; operators refer to them by name, so that
a reader can map them from a file without copying. Islands are ONNX models, as bytes, in `Graph.islands`.

graph.py       the types, and `Op`: what every operator has
ops/           the operators, each with its rules, shape, evaluation and facts; all files there are found by themselves
fields.py      which fields name constants;  rules.py: what rules are made of
header.py      the JSON half of a serialised graph
"""

from axforge.axcompiler.ir.fields import Constant
from axforge.axcompiler.ir.graph import OPERATORS, Epilogue, Graph, Op, Quant, Tensor, epilogue_of, operator, quant_of
from axforge.axcompiler.ir.header import IR_VERSION, GraphHeader
from axforge.axcompiler.ir.ops.conv import Conv, ConvTranspose
from axforge.axcompiler.ir.ops.elementwise import Add, Mul, Table
from axforge.axcompiler.ir.ops.island import Island
from axforge.axcompiler.ir.ops.movement import Broadcast, Concat, Pad, Reshape, Slice, Take, Transpose
from axforge.axcompiler.ir.ops.pool import AveragePool, MaxPool
from axforge.axcompiler.ir.ops.products import FullyConnected, MatMul
from axforge.axcompiler.ir.ops.reduce import ReduceMax, ReduceSum
from axforge.axcompiler.ir.ops.resize import ResizeLinear
from axforge.axcompiler.ir.ops.softmax import Softmax

__all__ = [
    "IR_VERSION",
    "OPERATORS",
    "Add",
    "AveragePool",
    "Broadcast",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Epilogue",
    "FullyConnected",
    "Graph",
    "GraphHeader",
    "Island",
    "MatMul",
    "MaxPool",
    "Mul",
    "Op",
    "Pad",
    "Quant",
    "ReduceMax",
    "ReduceSum",
    "Reshape",
    "ResizeLinear",
    "Slice",
    "Softmax",
    "Table",
    "Take",
    "Tensor",
    "Transpose",
    "epilogue_of",
    "operator",
    "quant_of",
]
