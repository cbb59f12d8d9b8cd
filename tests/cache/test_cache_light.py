"""What a command that changes nothing must not pay for."""

import subprocess
import sys
from pathlib import Path

HEAVY = {
    "numpy",
    "onnx",
    "onnxruntime",
    "rich",
    "sqlite3",
    "fsspec",
    "http.client",
    "urllib.request",
    "asyncio",
    "xxhash",
    "tempfile",
    "cryptography",
}

SCRIPT = """
import sys
from pathlib import Path
from axforge.cache.config import Config, open_store
from axforge.cache.key import Action
store = open_store(Path(sys.argv[1]), config=Config(Path(sys.argv[1]) / "c"))
action = Action("s", 1, {"in": store.files.digest(Path(sys.argv[1]) / "in")}, {}, ("out",))
record = store.record(action.key())
if record is not None:
    assert store.intact(record, Path(sys.argv[1]) / "dest")
    print(*sorted(sys.modules))
else:
    from axforge.cache.build import obtain
    obtain(store, action, Path(sys.argv[1]) / "dest", lambda work: (work / "out").write_bytes(b"x") and None)
"""


def test_finding_that_nothing_changed_imports_nothing_heavy(tmp_path: Path) -> None:
    """Third run: the input and the output have entries in the index, so nothing is hashed."""
    import time

    (tmp_path / "in").write_bytes(b"input")
    loaded = ""
    for _ in range(3):
        time.sleep(0.05)
        done = subprocess.run([sys.executable, "-S", "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, env=_with_path())
        assert done.returncode == 0, done.stderr
        loaded = done.stdout
    assert "axforge.cache.store" in loaded.split()
    assert HEAVY & set(loaded.split()) == set()


def _with_path() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_the_cache_imports_nothing_of_its_neighbours() -> None:
    """Read from its source: axcompiler, axruntime, ax_models and tasks are not named in any import."""
    import ast

    from axforge import cache

    root = Path(cache.__file__).parent
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"axcompiler", "axruntime", "ax_models", "tasks", "doit"}, file
