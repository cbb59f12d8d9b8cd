"""Inside axcompiler the arrows run one way too: from package to package in the order that docs/design.md prints, and in no circle."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = ROOT / "axcompiler"
#: each line may import what is in the lines below it, and its own package
ORDER = (
    ("check", "calibrate", "quantize", "optimize", "tile", "pack"),
    ("statistics", "qdq"),
    ("placement",),
    ("operators",),
    ("lowering",),
    ("onnx_graph",),
    ("ir",),
)
#: stages that use another stage: calibrate collects what the algorithms of quantize ask for
BESIDE = {"calibrate": {"quantize"}}


def modules() -> dict[str, Path]:
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in COMPILER.rglob("*.py")}


@functools.cache
def graph() -> dict[str, set[str]]:
    """Which modules of axcompiler each of them imports, inside functions and for type checking too."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        inside = {resolved(n.removeprefix("axforge."), known) for n in names if n.startswith("axforge.axcompiler")}
        found[module] = inside - {module, "axcompiler"}
    return found


def resolved(name: str, known: dict[str, Path]) -> str:
    while name not in known:
        name = name.rpartition(".")[0]
    return name


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The names that are left when those that import nothing that is left are taken away, again and again."""
    left = dict(arrows)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_module_of_the_compiler_is_in_a_circle() -> None:
    assert circle(graph()) == []


def test_the_search_finds_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]


def packages() -> dict[str, set[str]]:
    """Which packages each package imports; modules at the top of axcompiler are no packages."""
    found: dict[str, set[str]] = {}
    for module, others in graph().items():
        package = module.split(".")[1] if module.count(".") else ""
        if (COMPILER / package).is_dir() and package:
            found.setdefault(package, set()).update(o.split(".")[1] for o in others if (COMPILER / o.split(".")[1]).is_dir())
    return {package: others - {package} for package, others in found.items()}


@pytest.mark.parametrize("package", sorted(packages()))
def test_packages_import_downwards(package: str) -> None:
    level = next((k for k, names in enumerate(ORDER) if package in names), None)
    assert level is not None, f"axcompiler/{package} is not in the table"
    below = {name for names in ORDER[level + 1 :] for name in names} | BESIDE.get(package, set())
    assert packages()[package] <= below


def test_no_package_is_in_a_circle() -> None:
    assert circle(packages()) == []


def test_the_design_prints_the_table() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for names in ORDER:
        assert f"| {', '.join(f'`{name}`' for name in names)} |" in text
