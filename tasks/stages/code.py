"""The modules that decide what a stage writes: its entry modules and all that they import, each with a digest.

Imports are read from the sources (`ast`), also those inside functions; what is imported for type checkers only does not run and does
not count. Modules that are found by looking into a folder count too: those beside an `__init__.py` that hands its own name or path to a
function (`load_modules(__name__)`), and those of a package that is named in a text (`import_all("axforge.axruntime.…")`).

Only axcompiler, axruntime and ax_models are followed, without what decodes and shows answers: neither that nor how a result is stored
can change it. The digest leaves out comments and blank lines. Docstrings stay in, because some of them are texts that the compiler
writes into its reports.

What was found is remembered beside the build with the stamps of the files, so that a build with nothing to do reads and parses
nothing. A module that changes after this process first looked at it may be loaded already, so the digest would name code that does
not run here; that is an error.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import axforge
from axforge.axcompiler.errors import AxforgeError
from axforge.tasks.project.doit_state import Signature, settled, signature

if TYPE_CHECKING:
    import ast  # see imported

#: Packages whose modules are followed.
FOLLOWED = ("axcompiler", "axruntime", "ax_models")
#: What comes after the network: it is imported with the descriptor, and cannot reach what calibration feeds.
APART = ("axruntime/pipeline/postprocessing", "axruntime/results")
#: Form of the remembered file.
_FORM = 1
_NAMESPACE = "axforge"
_TEXT = r'("""(?:\\.|[^\\])*?"""|' + r"'''(?:\\.|[^\\])*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*')"
_COMMENT = _TEXT + r"|[ \t]*#[^\n]*"
#: A text that is a module's name.
_NAMED = r"""[\"'](axforge(?:\.\w+)+)[\"']"""
#: What an `__init__.py` has in it that imports whatever is beside it.
_DISCOVERS = r"\(__name__\b|\b__path__\b"
_BLANK = _TEXT + r"|\n(?:[ \t]*\n)+"


class Module(NamedTuple):
    """One source file, or a folder that modules are looked for in (`…/`), as it was when this process first looked.

    imports: files that it makes run, as paths like its own. sure: any later change must show in the stamps.
    """

    stamps: Signature
    sha256: str
    imports: tuple[str, ...]
    sure: bool = True


class Sources:
    """The sources below `root`, the folder of the namespace package. Paths are relative to it: `axcompiler/quantize/ranges.py`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module] = {}
        self._digests: dict[str, str] = {}
        self._recalled = False
        self._remembered = b""

    def digest(self, entries: tuple[str, ...], memory: Path) -> str:
        """One digest of all that the modules `entries` run ('' for none). memory: file to remember it in."""
        if not entries:
            return ""
        self._recall(memory)
        name = " ".join(entries)
        if name not in self._digests:
            lines = "".join(f"{file} {self._module(file).sha256}\n" for file in self._closure(entries))
            self._digests[name] = hashlib.sha256(lines.encode()).hexdigest()
            self._remember(memory)
        return self._digests[name]

    def files(self, entries: tuple[str, ...], memory: Path) -> Mapping[str, str]:
        """SHA-256 of each file that the modules `entries` run. AxforgeError when one was changed since this process looked first."""
        self.digest(entries, memory)
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
        if self._remembered:
            self._take(self._remembered, set())
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
        modules = list(imported(text, f"{_NAMESPACE}.{own if inside else own.rpartition('.')[0]}".rstrip(".")))
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
        found = [file for file in packages if (self.root / file).is_file()]
        alone = "/".join(parts) + ".py"
        return [*found, alone] if packages[-1] not in found and (self.root / alone).is_file() else found

    # --- memory: a line with stamps and digests, which suffices when nothing changed, and a line with the modules ---

    def _recall(self, memory: Path) -> None:
        """Take over what was remembered, as far as its files are what they were."""
        if self._recalled:
            return
        self._recalled = True
        try:
            head, _, modules = memory.read_bytes().partition(b"\n")
            data = json.loads(head)
            if (data["form"], data["root"]) != (_FORM, str(self.root)):
                return
            changed = {file for file, stamps in data["stamps"].items() if stamps != self._stamps(file)}
            if changed:
                self._take(modules, changed)
            else:
                self._digests, self._remembered = data["digests"], modules
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return  # absent or damaged: everything is read from the sources

    def _take(self, modules: bytes, changed: set[str]) -> None:
        self._remembered = b""
        for file, (stamps, sha256, imports) in json.loads(modules).items():
            if file not in changed:
                self._modules[file] = Module(stamps, str(sha256), tuple(imports))

    def _remember(self, memory: Path) -> None:
        """Write what is known, without files whose stamps may not show a further change."""
        sure = {file: module for file, module in self._modules.items() if module.sure}
        digests = self._digests if len(sure) == len(self._modules) else {}
        stamps = {file: module.stamps for file, module in sure.items()}
        head = json.dumps({"form": _FORM, "root": str(self.root), "stamps": stamps, "digests": digests})
        modules = json.dumps({file: [module.stamps, module.sha256, module.imports] for file, module in sure.items()})
        beside = memory.with_name(f"{memory.name}.{os.getpid()}")
        try:
            beside.write_text(f"{head}\n{modules}", encoding="utf-8")
            beside.replace(memory)
        except OSError:
            beside.unlink(missing_ok=True)  # found out again next time


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

    for node in _statements(ast.parse(text).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outside = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*outside, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _statements(body: "Iterable[ast.stmt]") -> "Iterator[ast.stmt]":
    """All statements, also nested ones, except those for type checkers."""
    import ast  # see imported

    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _statements(node.orelse)
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, name, ()))
        for name in ("handlers", "cases"):
            for part in getattr(node, name, ()):
                yield from _statements(part.body)
