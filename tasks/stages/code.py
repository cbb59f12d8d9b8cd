"""The modules that decide what a stage writes: its entry modules and all that they import, each with a digest.

Imports are read from the sources (`ast`), also those inside functions; what is imported for type checkers only does not run and does
not count. Modules that are found by looking into a folder count too: those beside an `__init__.py` that hands its own name or path to a
function (`load_modules(__name__)`), and those of a package that is named in a text (`load_modules("axforge.axruntime.…")`).

Only axcompiler, axruntime and ax_models are followed, without what decodes and shows answers: neither that nor how a result is stored
can change it. The digest leaves out comments and blank lines. Docstrings stay in, because some of them are texts that the compiler
writes into its reports.

What was found is remembered with the stamps of the files (code_memory.py), so that a build with nothing to do reads and parses
nothing. A module that changes after this process first looked at it may be loaded already, so the digest would name code that does
not run here; that is an error.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import axforge
from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project.doit_state import Signature, settled, signature
from axforge.tasks.stages import code_memory
from axforge.tasks.stages.code_memory import KnownSources, Module

if TYPE_CHECKING:
    import ast  # see imported

#: Packages whose modules are followed.
FOLLOWED = ("axcompiler", "axruntime", "ax_models")
#: What comes after the network: it is imported with the descriptor, and cannot reach what calibration feeds.
APART = ("axruntime/pipeline/postprocessing", "axruntime/results")
_NAMESPACE = "axforge"
_TEXT = r'("""(?:\\.|[^\\])*?"""|' + r"'''(?:\\.|[^\\])*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*')"
_COMMENT = _TEXT + r"|[ \t]*#[^\n]*"
#: A text that is a module's name.
_NAMED = r"""[\"'](axforge(?:\.\w+)+)[\"']"""
#: What an `__init__.py` has in it that imports whatever is beside it.
_DISCOVERS = r"\(__name__\b|\b__path__\b"
#: Fields of a statement that hold statements, or parts that do.
_BLOCKS = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
#: An import statement that has its lines to itself, in a text without comments and with empty texts.
_IMPORT = r"^[ \t]*((?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(?:\([^()]*\)|[\w.,* \t]+))$"
#: A block for type checkers: the lines after the first are blank or indented further.
_FOR_TYPES = r"^([ \t]*)if (?:\w+\.)?TYPE_CHECKING:[ \t]*\n(?:[ \t]*\n|\1[ \t]+[^\n]*\n?)*"
_BLANK = _TEXT + r"|\n(?:[ \t]*\n)+"


class Sources:
    """The sources below `root`, the folder of the namespace package. Paths are relative to it: `axcompiler/quantize/ranges.py`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module] = {}
        self._digests: dict[str, str] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._recalled = False
        self._unchanged: KnownSources | None = None

    def digest(self, entries: tuple[str, ...], *memories: Path) -> str:
        """One digest of all that the modules `entries` run ('' for none). memories: files to remember it in; the first sound one counts."""
        if not entries:
            return ""
        self._recall(memories)
        name = " ".join(entries)
        if name not in self._digests:
            lines = "".join(f"{file} {self._module(file).sha256}\n" for file in self._closure(entries))
            self._digests[name] = hashlib.sha256(lines.encode()).hexdigest()
            for memory in memories:
                code_memory.remember(memory, self.root, self._modules, self._digests)
        return self._digests[name]

    def files(self, entries: tuple[str, ...], *memories: Path) -> Mapping[str, str]:
        """SHA-256 of each file that the modules `entries` run. AxforgeError when one was changed since this process looked first."""
        self.digest(entries, *memories)
        found = {file: self._module(file) for file in self._closure(entries)}
        for file, module in found.items():
            if self._stamps(file) != module.stamps and self._read(file).sha256 != module.sha256:
                raise AxforgeError("This part of axforge was changed while it was in use.", where=file, fix="Start again.")
        return {file: module.sha256 for file, module in found.items()}

    def everything(self) -> str:
        """One digest of all modules and data files of the packages that are followed: what two machines must have in common."""
        seen = hashlib.sha256()
        for package in FOLLOWED:
            for path in sorted(path for kind in ("*.py", "*.yaml") for path in (self.root / package).rglob(kind)):
                content = hashlib.sha256(essence(path.read_text(encoding="utf-8")).encode()).hexdigest()
                seen.update(f"{path.relative_to(self.root).as_posix()} {content}\n".encode())
        return seen.hexdigest()

    # --- modules ---

    def _closure(self, entries: tuple[str, ...]) -> list[str]:
        found: set[str] = set()
        waiting = [file for module in entries for file in self._files_of(module) or [f"{'/'.join(module.split('.')[1:])}.py"]]
        while waiting:
            file = waiting.pop()
            if file not in found:
                found.add(file)
                waiting += self._module(file).imports
        return sorted(file for file in found if not file.endswith("/"))

    def _module(self, file: str) -> Module:
        if self._unchanged:
            self._take(self._unchanged, set())
        if file not in self._modules:
            self._modules[file] = self._read(file)
        return self._modules[file]

    def _read(self, file: str) -> Module:
        stamps, now = self._stamps(file), time.time_ns()
        if file.endswith("/"):
            return Module(stamps, "", tuple(self._listed(file)), settled(stamps, now))
        text = (self.root / file).read_text(encoding="utf-8")
        code = essence(text)
        own = file.removesuffix(".py").removesuffix("__init__").rstrip("/").replace("/", ".")
        inside = file.endswith("__init__.py")
        modules = list(imported(code, f"{_NAMESPACE}.{own if inside else own.rpartition('.')[0]}".rstrip(".")))
        folders = [file.removesuffix("__init__.py")] if inside and re.search(_DISCOVERS, code) else []
        for module in re.findall(_NAMED, code):
            modules.append(module)
            folder = "/".join(module.split(".")[1:]) + "/"
            folders += [folder] if f"{folder}__init__.py" in self._files_of(module) else []
        files = [found for module in modules for found in self._files_of(module)]
        return Module(stamps, hashlib.sha256(code.encode()).hexdigest(), tuple(dict.fromkeys([*files, *folders])), settled(stamps, now))

    def _listed(self, folder: str) -> list[str]:
        """The modules and packages in a folder."""
        found = [*(self.root / folder).glob("*.py"), *(self.root / folder).glob("*/__init__.py")]
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def _stamps(self, file: str) -> Signature:
        try:
            return signature(os.stat(f"{self.root}/{file}"))  # noqa: PTH116 (a hundred of them in a build with nothing to do)
        except FileNotFoundError:
            return []

    def _files_of(self, module: str) -> list[str]:
        """The file of a module, after those of the packages around it, which run with it; [] if it is not followed.

        Of a name that is not a module's but, say, a class's, only these.
        """
        namespace, *parts = module.split(".")
        if namespace != _NAMESPACE or (parts and parts[0] not in FOLLOWED) or "/".join(parts).startswith(APART):
            return []
        packages = ["/".join([*parts[:end], "__init__.py"]) for end in range(len(parts) + 1)]
        found = [file for file in packages if self._is_there(file)]
        alone = "/".join(parts) + ".py"
        return [*found, alone] if packages[-1] not in found and self._is_there(alone) else found

    def _is_there(self, file: str) -> bool:
        """Whether there is such a file. Folders are listed once: a name that is imported may be one of a thousand that are no modules."""
        folder, _, name = file.rpartition("/")
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(path.name for path in (self.root / folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
        return name in self._names[folder]

    # --- memory ---

    def _recall(self, memories: Sequence[Path]) -> None:
        """Take over what was remembered, as far as its files are what they were."""
        if self._recalled:
            return
        self._recalled = True
        found = next(filter(None, (code_memory.recall(memory, self.root) for memory in memories)), None)
        if found is None:
            return
        changed = {file for file, stamps in found.stamps.items() if stamps != self._stamps(file)}
        if changed:
            self._take(found, changed)
        else:
            self._digests, self._unchanged = dict(found.digests), found

    def _take(self, found: KnownSources, changed: set[str]) -> None:
        self._unchanged = None
        self._modules.update((file, module) for file, module in found.modules().items() if file not in changed)


@lru_cache(maxsize=1)
def sources() -> Sources:
    """The sources that this process runs."""
    return Sources(Path(axforge.__file__).parent)


def essence(text: str) -> str:
    """A source text without comments and blank lines; texts in quotes stay as they are."""
    code = re.sub(_COMMENT, lambda found: found[1] or "", text, flags=re.DOTALL)
    return re.sub(_BLANK, lambda found: found[1] or "\n", code, flags=re.DOTALL).lstrip("\n")


def imported(text: str, package: str) -> Iterator[str]:
    """Names that the statements of a module of `package` import and run: of modules, and of what may be one in them."""
    import ast  # costs some milliseconds, which a build with nothing to do need not pay

    short = _imports_alone(text)
    for node in _statements(ast.parse(text if short is None else short).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outside = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*outside, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _imports_alone(text: str) -> str | None:
    """The import statements of a module that run, one on each line, for parsing a whole module takes five times as long.

    None where they are not simply lines of their own, or a comment has the word.
    """
    code = re.sub(_TEXT, '""', text, flags=re.DOTALL)
    found = list(re.finditer(_IMPORT, code, flags=re.MULTILINE))
    if "\\\n" in code or len(found) != len(re.findall(r"\bimport\b", code)):
        return None
    for_types = [block.span() for block in re.finditer(_FOR_TYPES, code, flags=re.MULTILINE)]
    if len(for_types) != len(re.findall(r"\bif\b[^\n]*\bTYPE_CHECKING\b", code)):
        return None
    return "\n".join(one[1] for one in found if not any(start < one.start() < end for start, end in for_types))


def _statements(body: "Sequence[ast.stmt]") -> "Iterator[ast.stmt]":
    """All statements, also nested ones, except those for type checkers."""
    import ast  # see imported

    waiting: list[ast.stmt] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", "")):
            waiting += node.orelse
            continue
        yield node
        for name in _BLOCKS.intersection(node._fields):
            for part in getattr(node, name):
                waiting += [part] if isinstance(part, ast.stmt) else part.body
