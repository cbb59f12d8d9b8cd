"""The arrows of docs/design.md, section 1: who may import whom. Held by reading the imports, not by running them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("axcompiler", "axruntime", "ax_models", "cache", "tasks", "cli")
#: What axruntime may see of axcompiler.
CONTRACT = (
    *("errors", "registry", "ir", "spec", "numerics", "islands", "reference"),
    *("container", "graphfile", "program", "manifest", "instruction", "isa", "shape_patterns", "strides", "target", "stages"),
)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, also inside functions; relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def allowed(importer: str, module: str) -> bool:
    """Whether a package may import a module of this repository."""
    top, _, rest = module.removeprefix("axforge.").partition(".")
    if top not in PACKAGES or top == importer:
        return True
    if importer == "axruntime" and top == "axcompiler":
        return rest == "" or rest.split(".")[0] in CONTRACT
    if importer == "ax_models" and top == "axcompiler":
        return rest == "" or rest.split(".")[0] in ("errors", "container")
    return importer == "cli" or (importer == "tasks" and top != "cli")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = [f"{f.relative_to(ROOT)}:{line} imports {m}" for f in files for line, m in imports(f) if not allowed(package, m)]
    assert wrong == []


def test_the_check_sees_imports_inside_functions() -> None:
    found = {module for _, module in imports(ROOT / "tasks" / "stages" / "execution.py")}
    assert "axforge.cache.build" in found
    assert not allowed("cache", "axcompiler.errors")
    assert not allowed("axruntime", "axcompiler.placement.plan")
    assert not allowed("axcompiler", "tasks")
    assert allowed("axruntime", "axcompiler.ir")
