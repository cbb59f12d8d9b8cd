"""A project: a folder of the user's with `axforge.toml`, a `[tool.axforge]` table in pyproject.toml, or a dodo.py that uses our tasks.

[tool.axforge]              # in axforge.toml the same keys without a table
models = ["models"]         # folders with a folder for each model; without this key: models/, if it is there
data_root = "data"          # folder with the networks and pictures that descriptors name (--data-root, AXFORGE_DATA_ROOT)
build_root = "build"        # where results go (--build-root, AXFORGE_BUILD_ROOT)
cluster = "tcp://host:8786" # whose workers compile and measure (--cluster, AXFORGE_CLUSTER)
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project.suggest import nearest

TOML, PYPROJECT, DODO = "axforge.toml", "pyproject.toml", "dodo.py"
_OURS = "axforge.tasks"


@dataclass(frozen=True)
class ProjectFile:
    """What a project's file says; '' and () for what it does not say. Relative paths are relative to the project."""

    models: tuple[str, ...] = ()
    data_root: str = ""
    build_root: str = ""
    cluster: str = ""


def find_project(start: Path) -> Path:
    """The nearest folder from `start` upward that is a project, else `start` itself. No code of the project is run."""
    for folder in (start, *start.parents):
        if (folder / TOML).is_file() or _pyproject(folder) is not None or uses_our_tasks(folder):
            return folder
    return start


def uses_our_tasks(folder: Path) -> bool:
    """Whether the folder has a dodo.py that imports `axforge.tasks`, judged by reading it."""
    try:
        source = (folder / DODO).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if _OURS not in source and "axforge" not in source:
        return False
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return _OURS in source  # doit shows the mistake
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return any(name == _OURS or name.startswith(f"{_OURS}.") for name in named)


def read_project(folder: Path) -> ProjectFile:
    """What the project's file says. Raises AxforgeError for a key or a value that it cannot have."""
    path = folder / TOML
    table = _toml(path) if path.is_file() else None
    if table is None:
        path, table = folder / PYPROJECT, _pyproject(folder) or {}
    said = {key: value for key, value in table.items() if key != "cache"}  # the cache reads its own table
    for key, value in said.items():
        if key not in ProjectFile.__dataclass_fields__:
            raise AxforgeError(
                f"There is no setting {key!r}.", where=str(path), fix=nearest(key, [*ProjectFile.__dataclass_fields__, "cache"])
            )
        texts = value if key == "models" and isinstance(value, list) else [value]
        if (key == "models") != isinstance(value, list) or not all(isinstance(text, str) for text in texts):
            kind = 'a list of folders: ["models"]' if key == "models" else "a text"
            raise AxforgeError(f"The setting {key!r} must be {kind}.", where=str(path))
    models = tuple(str(name) for name in found) if isinstance(found := said.get("models", []), list) else ()
    return ProjectFile(models, *(str(said.get(key, "")) for key in ("data_root", "build_root", "cluster")))


def _pyproject(folder: Path) -> dict[str, object] | None:
    """The table [tool.axforge] of pyproject.toml; None if there is none. A file with mistakes is somebody else's to report."""
    path = folder / PYPROJECT
    try:
        if b"tool.axforge" not in path.read_bytes():
            return None
        tool = _toml(path).get("tool")
    except (OSError, AxforgeError):
        return None
    table = tool.get("axforge") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _toml(path: Path) -> dict[str, object]:
    import tomllib  # most projects need none

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AxforgeError(f"This is not valid TOML: {error}.", where=str(path)) from error
