"""Who may import whom: docs/design.md, section 1. Imports are read from the source, those in functions and for type checkers included."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("axcompiler", "axruntime", "ax_models", "cache", "tasks", "cli")

#: The order of packages: a module may import what is in its own line and in the lines below it. A name stands for a folder with all that
#: is in it, or for a file. docs/design.md prints this table.
ORDER: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("tasks",),
    ("cache",),
    ("axruntime.propose", "axruntime.bench", "axruntime.evaluate", "axruntime.explain", "axruntime.report", "axruntime.serving"),
    ("axruntime.prediction", "axruntime.model"),
    ("axruntime.deployed", "axruntime.streaming"),
    ("axruntime.pipeline",),
    ("axruntime.media",),
    ("axruntime.results",),
    ("axruntime.engines",),
    ("axruntime.axmodel", "axruntime.program_check"),
    ("ax_models",),
    ("axcompiler.api", "axcompiler.inspection", "axcompiler.diagnosis"),
    ("axcompiler.check", "axcompiler.calibrate", "axcompiler.quantize", "axcompiler.optimize", "axcompiler.tile", "axcompiler.pack"),
    ("axcompiler.rewrites", "axcompiler.qdq"),
    ("axcompiler.statistics",),
    ("axcompiler.placement",),
    ("axcompiler.operators",),
    ("axcompiler.lowering",),
    ("axcompiler.onnx_graph",),
    ("axcompiler.graphfile", "axcompiler.reference", "axcompiler.islands", "axcompiler.spec"),
    ("axcompiler.ir",),
    ("axcompiler.disassembly", "axcompiler.isa", "axcompiler.program", "axcompiler.strides", "axcompiler.target"),
    ("axcompiler.container", "axcompiler.stages", "axcompiler.support"),
)
#: What runs a compiled model may see of the compiler: what an `.axmodel` holds and means.
CONTRACT = (
    *("container", "disassembly", "errors", "graphfile", "instruction", "ir", "isa", "islands", "manifest", "numerics", "program"),
    *("reference", "registry", "shape_patterns", "spec", "stages", "strides", "target"),
)
#: Besides the order: the only packages of other top folders that a top folder may import. None: any.
ACROSS: dict[str, tuple[str, ...] | None] = {
    "cache": (),
    "axcompiler": (),
    "axruntime": tuple(f"axcompiler.{name}" for name in CONTRACT),
    "ax_models": ("axcompiler.errors", "axcompiler.container"),
    "tasks": None,
    "cli": None,
}


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the product by its name without `axforge.`: `axcompiler.tile.lower`; a package by its own name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def names_in(text: str, package: str) -> Iterator[str]:
    """Everything that a text imports, anywhere in it, as `module` or `module.name`, without `axforge.`; relative imports resolved."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("axforge.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{source}.{alias.name}".removeprefix("axforge.") for alias in node.names)


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the product that a module imports; what is not a module counts as the module it is taken from."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = names_in(path.read_text(encoding="utf-8"), package)
    found = {name if name in modules() else name.rpartition(".")[0] for name in names}
    return frozenset(name for name in found if name in modules() and name != module)


def cycles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (strongly connected components of more than one node), each sorted."""
    reach: dict[str, set[str]] = {}
    for node in graph:
        seen, stack = set(), [node]
        while stack:
            for target in graph.get(stack.pop(), frozenset()):
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        reach[node] = seen
    groups = {tuple(sorted(other for other in reach[node] if node in reach[other])) for node in graph if node in reach[node]}
    return sorted(map(list, groups))


def level(module: str) -> int | None:
    """The number of the line that covers a module, by the longest name; None for the files at the top of a folder that no line names."""
    parts = module.split(".")
    lines = {name: i for i, names in enumerate(ORDER) for name in names}
    return next((lines[name] for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in lines), None)


def package_of(module: str) -> str:
    """The package a module belongs to: the folder below a top folder, with all its folders; a file beside those folders by itself."""
    depth = len(modules()[module].relative_to(ROOT).parts)
    return ".".join(module.split(".")[:2]) if depth > 2 else module


def test_no_module_imports_itself_through_others() -> None:
    assert cycles({module: imports(module) for module in modules()}) == []


def test_no_package_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules():
        graph.setdefault(package_of(module), set()).update(package_of(target) for target in imports(module))
    assert cycles({package: frozenset(targets - {package}) for package, targets in graph.items()}) == []


def test_the_search_finds_a_cycle() -> None:
    arrows = {"a": "b", "b": "c", "c": "a", "d": "a"}
    assert cycles({node: frozenset(target) for node, target in arrows.items()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards(package: str) -> None:
    def upwards(module: str, target: str) -> bool:
        mine, other = level(module), level(target)
        return mine is not None and other is not None and other < mine

    mine = [module for module in modules() if module.split(".")[0] == package]
    assert [f"{module} imports {target}" for module in mine for target in imports(module) if upwards(module, target)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_top_folders_see_only_what_they_may(package: str) -> None:
    may = ACROSS[package]
    found = {
        f"{module} imports {target}"
        for module in modules()
        if module.split(".")[0] == package
        for target in imports(module)
        if target.split(".")[0] != package and may is not None and ".".join(target.split(".")[:2]) not in may
    }
    assert sorted(found - {f for f in found if f.endswith(" imports axcompiler")}) == []


def test_every_folder_has_its_place() -> None:
    folders = {package_of(module) for module in modules() if len(modules()[module].relative_to(ROOT).parts) > 2}
    assert sorted(folder for folder in folders if level(folder) is None) == []


def test_imports_in_functions_and_for_type_checkers_are_seen() -> None:
    text = "if TYPE_CHECKING:\n    from axforge.cache import store\ndef f():\n    from . import g\n    import axforge.tasks.zoo\n"
    assert sorted(names_in(text, "axcompiler.tile")) == ["axcompiler.tile.g", "cache.store", "tasks.zoo"]


def test_the_design_prints_the_table() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = [f"| {', '.join(f'`{name}`' for name in names)} |" for names in ORDER]
    assert [row for row in rows if row not in text] == []
    assert sorted(rows, key=text.index) == rows
