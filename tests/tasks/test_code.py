"""A key follows the code: editing a module runs the stages whose bytes it decides, and no others."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from tasks_support import STAGES, Project, make_project, tiny_model

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import STAGES as ALL
from axforge.axcompiler.stages import Stage
from axforge.axruntime.pipeline.descriptor import Source
from axforge.tasks.project.command_line import ModelOptions
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import Settings
from axforge.tasks.project.zoo import ZooModel
from axforge.tasks.stages import code
from axforge.tasks.stages.inputs import inputs_of
from axforge.tasks.stages.source import origin

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("axcompiler", "axruntime", "ax_models", "cache", "tasks")
#: Distributions by the names they are imported under, where these differ.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow"}
#: Imported by stages, and decides no byte that a stage writes: how protobuf reads ONNX belongs to onnx, and the target is an input.
NOT_DECIDING = {"google", "yaml", "ml_dtypes"}


def plan_of(folder: Path) -> BuildPlan:
    """A plan of a model."""
    return BuildPlan(
        ZooModel("m", folder / "m" / "model.json", {"name": "m"}), ModelOptions(), Settings(folder, folder, folder, folder, (folder,))
    )


# --- in a copy of the packages ---


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was compiled with a copy of the packages."""
    folder = tmp_path_factory.mktemp("copy")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    project = make_project(folder / "project", folder / "cache")
    project.environment = {**project.environment, "PYTHONPATH": str(folder / "src")}
    project.fake_stages()
    assert project.compile().ran() == list(STAGES)
    return project


@pytest.fixture
def copy(compiled: Project) -> Iterator[Path]:
    """The folder with the copied packages; they are put right again afterwards."""
    folder = compiled.root.parent
    yield folder
    for name in PACKAGES:
        for path in (folder / name).rglob("*.py"):
            if not (original := ROOT / path.relative_to(folder)).exists():
                path.unlink()
            elif path.read_bytes() != original.read_bytes():
                shutil.copyfile(original, path)
    assert compiled.compile().ran() == []


#: How quantize narrows ranges.
CLIPPING = "axcompiler/quantize/algorithms/clipping.py"
ALL_BUT_FETCH = [stage for stage in STAGES if stage != "fetch"]
EDITS: dict[str, list[str]] = {
    "cache/store.py": [],
    "tasks/screen/reporter.py": [],
    "tasks/__init__.py": [],
    "ax_models/builders/shape.py": [],
    "axruntime/engines/host/engine.py": [],
    "axruntime/evaluate/metrics.py": [],
    "axruntime/media/images.py": ["calibrate"],
    "axruntime/pipeline/preprocessing/resize.py": ["calibrate"],
    "axruntime/pipeline/postprocessing/nms.py": [],
    "axcompiler/errors.py": ALL_BUT_FETCH,
    "axcompiler/check/__init__.py": ["check"],
    "axcompiler/calibrate/__init__.py": ["calibrate"],
    "axcompiler/rewrites/equalize.py": ["calibrate", "quantize"],
    CLIPPING: ["quantize"],
    "axcompiler/quantize/schemes/mse.py": ["quantize"],
    "axcompiler/quantize/effect/search.py": ["quantize"],
    "axcompiler/optimize/__init__.py": ["optimize"],
    "axcompiler/tile/__init__.py": ["tile"],
    "axcompiler/pack/__init__.py": ["pack"],
}


@pytest.mark.parametrize("module", EDITS)
def test_an_edited_module_runs_the_stages_that_it_decides(compiled: Project, copy: Path, module: str) -> None:
    assert (copy / module).is_file()
    with (copy / module).open("a") as file:
        file.write("\n_EDITED = 1\n")
    told = compiled.compile()
    assert told.ran() == EDITS[module]
    for stage in EDITS[module]:
        line = told.out.split(f"compile:tiny:{stage}: ran")[1].split("\ncompile:")[0]
        assert f"code: 1 module changed ({module})" in line


def test_what_follows_runs_when_the_bytes_change(compiled: Project, copy: Path) -> None:
    with (copy / CLIPPING).open("a") as file:
        file.write("\n_EDITED = 2\n")
    assert compiled.compile(BYTES_quantize="others").ran() == ["quantize", "optimize", "tile", "pack"]


def test_a_comment_runs_nothing(compiled: Project, copy: Path) -> None:
    for module in (CLIPPING, "cache/key.py"):
        text = (copy / module).read_text()
        (copy / module).write_text(f"# a comment\n\n{text}\n\n# another\n")
    assert compiled.compile().ran() == []


def test_a_new_operator_is_found(compiled: Project, copy: Path) -> None:
    (copy / "axcompiler/operators/another.py").write_text("ANOTHER = 1\n")
    told = compiled.compile()
    assert "check" in told.ran()
    assert "code: 1 module added (axcompiler/operators/another.py)" in told.out


STATISTIC = """\
from axforge.axcompiler.statistics.base import PlacedStatistic, statistic


@statistic
class Squares(PlacedStatistic):
    name = "squares"
"""
ALGORITHM = """\
from axforge.axcompiler.quantize.algorithm import Phase, QuantizingAlgorithm, algorithm


@algorithm
class Another(QuantizingAlgorithm):
    name = "another"
    phase = Phase.LAYERS
    needs = ()

    def apply(self, quantization, statistics):
        pass
"""
MEASURING = ALGORITHM.replace("needs = ()", "needs = (Squares,)")
MEASURING = f"from axforge.axcompiler.statistics.squares import Squares\n{MEASURING}"


def test_an_algorithm_calibrates_again_only_if_it_needs_another_statistic(compiled: Project, copy: Path) -> None:
    """The needs of algorithms reach calibrate in its configuration, also when their code is edited and nothing else."""
    (copy / "axcompiler/statistics/squares.py").write_text(STATISTIC)
    assert compiled.compile().ran() == ["calibrate", "quantize"], "a kind of statistic is code of both"
    another = copy / "axcompiler/quantize/algorithms/another.py"
    another.write_text(ALGORITHM)
    assert compiled.compile().ran() == ["quantize"]
    before = compiled.descriptor.read_text()
    from_quantize = ["quantize", "optimize", "tile", "pack"]  # the configuration is among the bytes that these stages write
    try:
        compiled.describe(compile={"quantize": {"algorithms": {"another": True}}})
        assert compiled.compile().ran() == from_quantize
        compiled.describe(compile={"quantize": {"algorithms": {"another": True}}, "calibrate": {"bins": 512}})
        assert compiled.compile().ran() == ["calibrate", *from_quantize]  # all are what they were, at a glance
        another.write_text(MEASURING)
        told = compiled.compile()
        assert told.ran() == ["calibrate", *from_quantize]
        assert "squares" in told.out.split("compile:tiny:calibrate: ran")[1].split("\ncompile:")[0]
        compiled.describe(compile={"quantize": {"algorithms": {"another": False}}, "calibrate": {"bins": 512}})
        assert compiled.compile().stages()["calibrate"] == "restored", "as it was before the algorithm was on"
    finally:
        compiled.descriptor.write_text(before)


def test_an_unknown_scheme_is_refused_before_calibration(compiled: Project, copy: Path) -> None:
    before = compiled.descriptor.read_text()
    try:
        compiled.describe(compile={"quantize": {"scheme": "mes"}})
        told = compiled.doit("compile:tiny", "--explain")
        assert told.status != 0
        assert "Did you mean 'mse'?" in told.out + told.err
        assert set(told.stages()) == {"fetch", "check"}
    finally:
        compiled.descriptor.write_text(before)


def test_explain_names_the_module(compiled: Project, copy: Path) -> None:
    with (copy / "axcompiler/tile/__init__.py").open("a") as file:
        file.write("\n_EDITED = 3\n")
    told = compiled.doit("cache", "explain", "tiny").out
    assert "tile: would run\n    since the last build: code: 1 module changed (axcompiler/tile/__init__.py)\n" in told
    assert "optimize: up to date" in told


# --- what belongs to a stage ---


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A file to remember in."""
    return tmp_path / "code.json"


def module(folder: Path, name: str, text: str) -> None:
    """Write a module and the packages around it."""
    path = folder / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for above in [path.parent, *path.parent.parents]:
        (above / "__init__.py").touch()
        if above == folder:
            return


def test_lazy_imports_count_and_those_for_type_checkers_do_not(tmp_path: Path, memory: Path) -> None:
    text = "if TYPE_CHECKING:\n    import axforge.axruntime.types\nelse:\n    import axforge.axruntime.other\n"
    module(
        tmp_path, "axcompiler/start", f"{text}def f():\n    try:\n        from axforge.axruntime import lazy\n    finally:\n        pass\n"
    )
    for name in ("types", "other", "lazy"):
        module(tmp_path, f"axruntime/{name}", "")
    found = code.Sources(tmp_path).files(("axforge.axcompiler.start",), memory)
    packages = ["__init__.py", "axcompiler/__init__.py", "axruntime/__init__.py"]
    assert sorted(found) == sorted([*packages, "axcompiler/start.py", "axruntime/lazy.py", "axruntime/other.py"])


def test_a_package_that_is_named_in_a_text_counts_with_all_its_modules(tmp_path: Path, memory: Path) -> None:
    module(tmp_path, "axcompiler/start", "from axforge.axruntime.find import load_modules\nload_modules('axforge.axruntime.steps')\n")
    module(tmp_path, "axruntime/find", "import importlib\n")
    module(tmp_path, "axruntime/steps/one", "from . import two\n")
    module(tmp_path, "axruntime/unknown", "")
    found = code.Sources(tmp_path).files(("axforge.axcompiler.start",), memory)
    assert {"axruntime/steps/one.py", "axruntime/find.py"} <= set(found)
    assert "axruntime/unknown.py" not in found
    module(tmp_path, "axruntime/steps/three", "")
    assert "axruntime/steps/three.py" in code.Sources(tmp_path).files(("axforge.axcompiler.start",), memory)


#: Functions that import whatever is in a folder.
DISCOVERY = {"load_modules", "iter_modules", "walk_packages"}


def discoveries() -> Iterator[tuple[str, str]]:
    """(module, package that it looks into) for each call of such a function with a package that the text shows."""
    for path in sorted(path for package in code.FOLLOWED for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(("axforge", *parts)).removesuffix(".__init__")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) in DISCOVERY:
                given = call.args[0]
                if isinstance(given, ast.Constant):
                    yield module, given.value
                elif ast.unparse(given) in ("__name__", "__path__"):
                    yield module, module
                else:
                    pytest.fail(f"{module}: nobody sees this package")


@pytest.mark.parametrize("module, package", [*discoveries()])
def test_every_folder_that_modules_are_looked_for_in_belongs_to_the_code(tmp_path: Path, module: str, package: str) -> None:
    folder = package.removeprefix("axforge.").replace(".", "/")
    if not folder.startswith(code.APART):
        there = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.py")}
        assert len(there) > 1
        assert there <= set(code.sources().files((module,), tmp_path / "code.json"))


def test_calibrate_and_quantize_do_not_run_one_another(tmp_path: Path) -> None:
    for stage, other in (("calibrate", "quantize"), ("quantize", "calibrate")):
        found = code.sources().files((f"axforge.axcompiler.{stage}",), tmp_path / "code.json")
        assert "axcompiler/rewrites/equalize.py" in found
        assert [file for file in found if file.startswith(f"axcompiler/{other}/")] == []


def test_nothing_is_read_when_nothing_changed(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, "axcompiler/start", "import axforge.axcompiler.next\n")
    module(tmp_path, "axcompiler/next", "A = 1\n")
    for path in [*tmp_path.rglob("*.py")]:
        os.utime(path, (1, 1))
    entries = ("axforge.axcompiler.start",)
    now = code.time.time_ns
    monkeypatch.setattr(code.time, "time_ns", lambda: now() + 10**9)  # the stamps are old enough to be believed
    first = code.Sources(tmp_path).digest(entries, memory)
    read: list[str] = []
    real = code.Sources._read
    monkeypatch.setattr(code.Sources, "_read", lambda self, file: read.append(file) or real(self, file))
    assert code.Sources(tmp_path).digest(entries, memory) == first
    assert read == []
    (tmp_path / "axcompiler/next.py").write_text("A = 2\n")
    assert code.Sources(tmp_path).digest(entries, memory) != first
    assert read == ["axcompiler/next.py"]


@pytest.fixture
def old_modules(tmp_path: Path) -> tuple[str, ...]:
    """Two modules with stamps that are old enough to be believed; gives the entry."""
    module(tmp_path, "axcompiler/start", "import axforge.axcompiler.next\n")
    module(tmp_path, "axcompiler/next", "A = 1\n")
    code.time.sleep(0.05)
    return ("axforge.axcompiler.start",)


def test_the_second_memory_serves_when_the_first_is_gone(
    tmp_path: Path, memory: Path, old_modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "spare"
    first = code.Sources(tmp_path).files(old_modules, memory, spare)
    memory.unlink()
    monkeypatch.setattr(code.Sources, "_read", lambda self, file: pytest.fail(f"{file} was read"))
    assert code.Sources(tmp_path).files(old_modules, memory, spare) == first


@pytest.mark.parametrize("damage", [b"", b"{}", b"null\n{}", b"[1, 2]\n[]", b"00000000 {}\n00000000 {}"])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, memory: Path, damage: bytes) -> None:
    module(tmp_path, "axcompiler/start", "A = 1\n")
    first = code.Sources(tmp_path).digest(("axforge.axcompiler.start",), memory)
    memory.write_bytes(damage)
    assert code.Sources(tmp_path).digest(("axforge.axcompiler.start",), memory) == first


def test_a_changed_bit_of_the_memory_changes_no_digest(tmp_path: Path, memory: Path, old_modules: tuple[str, ...]) -> None:
    first = code.Sources(tmp_path).files(old_modules, memory)
    content = memory.read_bytes()
    for place in range(0, len(content), 7):
        memory.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert code.Sources(tmp_path).files(old_modules, memory) == first


def test_statements_are_found_however_deep(tmp_path: Path) -> None:
    text = "try:\n    import a\nexcept E:\n    while x:\n        import b\nelse:\n    with y:\n        import c\nfinally:\n    import d\n"
    text += "match x:\n    case 1:\n        import e\nasync def f():\n    for i in j:\n        import g\n    else:\n        import h\n"
    assert sorted(code.imported(text, "axforge")) == list("abcdegh")


def test_statements_that_are_picked_out_are_those_of_the_whole_module(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = code.sources()
    texts = [code.essence((sources.root / file).read_text(encoding="utf-8")) for file in sources.files(("axforge.axcompiler.quantize",))]
    texts += [code.essence(path.read_text(encoding="utf-8")) for name in code.FOLLOWED for path in (sources.root / name).rglob("*.py")]
    picked = [sorted(code.imported(text, "axforge.a")) for text in texts]
    monkeypatch.setattr(code, "_imports_alone", lambda text: None)
    assert picked == [sorted(code.imported(text, "axforge.a")) for text in texts]
    assert sum(map(len, picked)) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "if x: import a",
        "import a; import b",
        "from b import a, \\\n    c",
        "if TYPE_CHECKING and x:\n    import a",
        "if not TYPE_CHECKING:\n    import a",
        "if TYPE_CHECKING: import a\nimport b",
        "if t.TYPE_CHECKING:\n    import a\n\n    import c\nelse:\n    import b",
        "x = 'import a'\nimport b  # import c",
        "def f():\n    from . import (\n        a,\n        b,\n    )\n",
    ],
)
def test_unusual_statements_are_found_too(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picked = list(code.imported(text, "axforge.a"))
    monkeypatch.setattr(code, "_imports_alone", lambda text: None)
    assert sorted(picked) == sorted(code.imported(text, "axforge.a"))


def test_code_that_changes_while_it_is_in_use_makes_no_key(tmp_path: Path, memory: Path) -> None:
    module(tmp_path, "axcompiler/start", "A = 1\n")
    running = code.Sources(tmp_path)
    running.files(("axforge.axcompiler.start",), memory)
    (tmp_path / "axcompiler/start.py").write_text("A = 1  # only a comment\n")
    running.files(("axforge.axcompiler.start",), memory)
    (tmp_path / "axcompiler/start.py").write_text("A = 22\n")
    with pytest.raises(AxforgeError, match="changed while it was in use"):
        running.files(("axforge.axcompiler.start",), memory)


def test_what_is_left_out_of_a_digest_is_no_code() -> None:
    assert code.essence("# first\nx = 1  # why\n\n\n    # more\ny = '# text'\n") == "x = 1\ny = '# text'\n"
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert ast.dump(ast.parse(code.essence(text))) == ast.dump(ast.parse(text)), path


def test_a_builder_brings_its_code_and_a_copied_file_has_none(tmp_path: Path) -> None:
    onnx.save(tiny_model(), tmp_path / "m.onnx")
    settings = plan_of(tmp_path).settings
    assert origin(Source(file="m.onnx"), "", "m", settings).entries == ()
    built = origin(Source(builder="axforge.ax_models.builders.shape:yolov5s"), "", "m", settings)
    found = code.sources().files(built.entries, tmp_path / "code.json")
    assert {"ax_models/builders/shape.py", "ax_models/builders/graph.py", "axcompiler/container.py"} <= set(found)


@pytest.mark.parametrize("stage", ALL[1:], ids=lambda stage: stage.name)
def test_the_libraries_of_a_stage_are_those_that_its_code_imports(tmp_path: Path, stage: Stage) -> None:
    inputs = inputs_of(plan_of(tmp_path), stage)
    found = set()
    for file in code.sources().files(inputs.entries, tmp_path / "code.json"):
        text = (code.sources().root / file).read_text(encoding="utf-8")
        found |= {name.split(".")[0] for name in code.imported(text, "axforge")}
    foreign = found - set(sys.stdlib_module_names) - {"axforge"} - NOT_DECIDING
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= set(inputs.libraries)


@pytest.mark.parametrize("stage", ALL[1:], ids=lambda stage: stage.name)
def test_every_module_that_a_stage_loads_belongs_to_its_code(tmp_path: Path, stage: Stage) -> None:
    entries = inputs_of(plan_of(tmp_path), stage).entries
    script = f"import sys, {', '.join(name for name in entries if '.axcompiler.' in name)}\n"
    script += "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('axforge.')), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    root = code.sources().root
    loaded = {Path(line).relative_to(root).as_posix() for line in done.stdout.splitlines()}
    assert loaded - set(code.sources().files(entries, tmp_path / "code.json")) == set()
