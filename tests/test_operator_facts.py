"""What is known of an ONNX operator is in its module in operators/; other packages ask, and name no operators themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from axforge.axcompiler import operators

ROOT = Path(__file__).resolve().parents[1] / "axcompiler"
ONNX = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
#: what an ONNX file is written with, rather than what a network computes: constants, copies, and the QDQ form
FORM = {"Constant", "Identity", "QuantizeLinear", "DequantizeLinear", "Cast", "Shape", "Size"}
#: (calibrate adds nodes that measure)
#: a rewrite of ONNX nodes is a pattern of operators, and names them; the classes of the fused graph have names of their own
#: (onnx_graph/shapes.py says of which operators the inference of the onnx package makes the elements: that is a fact of the package)
PATTERNS = ("onnx_graph/shapes.py", "operators/", "ir/", "tile/", "check/passes/", "check/qoperators/", "calibrate/")


def operator_names(path: Path) -> Iterator[tuple[int, str]]:
    """(line, operator) for each ONNX operator that is compared with something or listed in a set, a tuple, a list or a dictionary."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare | ast.Set | ast.Tuple | ast.List | ast.Dict):
            for line, text in texts(node):
                yield from ((line, word) for word in text.split() if word in ONNX)


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings in an expression, without the arguments of calls: making a node names its operator."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif not isinstance(node, ast.Call):
        for inner in ast.iter_child_nodes(node):
            yield from texts(inner)


def elsewhere() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if not str(p.relative_to(ROOT)).startswith(PATTERNS)]


def test_the_search_finds_names() -> None:
    found = {name for path in (ROOT / "operators").glob("*.py") for _, name in operator_names(path)}
    assert {"Conv", "MaxPool", "Relu"} <= found


@pytest.mark.parametrize("path", elsewhere(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_operator_is_named_outside_its_module(path: Path) -> None:
    assert [f"line {line}: {name}" for line, name in operator_names(path) if name not in FORM] == []


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
def test_layers_multiply(name: str) -> None:
    operator = operators.find(name)
    assert operator is not None
    assert operator.multiplies is not None


def test_only_layers_multiply() -> None:
    assert {n for n, o in operators.registered().items() if o.multiplies} == {"Conv", "ConvTranspose", "Gemm", "MatMul"}
