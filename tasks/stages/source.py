"""fetch: from the `source` of a model.json to one self-contained `model.onnx`.

A source is a file below the data root, an address with a checksum, or a builder `module:function`. A model.json may come from a
stranger, so only builders that axforge ships, or that the user's own dodo.py allows (`allow_builders`), are imported and run.
The key of the stage names content: bytes of files, checksums, the code that makes the file, where any does. Never a path or an address.
"""

import hashlib
import importlib
import importlib.util
import inspect
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import Progress
from axforge.tasks.project.settings import Settings

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.descriptor import Source

OUTPUT = "model.onnx"
#: Folder below the build root that keeps unfinished downloads, by checksum.
DOWNLOADS = "downloads"
#: Prefix of the modules whose functions a model.json may name without the project's consent.
SHIPPED_BUILDERS = "axforge.ax_models.builders."


@dataclass(frozen=True)
class Origin:
    """A source, looked at. files: inputs by name, whose content decides the model. facts: what else decides it.

    libraries: distributions that decide it. entries: modules where code of axforge begins that decides it; none for a file that is
    only copied, or that has a checksum. write(out, progress): makes the file.
    """

    files: Mapping[str, Path]
    write: Callable[[Path, Progress], None]
    facts: Mapping[str, object] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()


def origin(source: "Source | None", given: str, model: str, settings: Settings) -> Origin:
    """Look at a descriptor's source, or at the file that the user gave instead. Raises AxforgeError if it is not there."""
    if given:
        path = settings.typed(given)
        if not path.is_file():
            raise AxforgeError("The file does not exist.", where=str(path), fix="Check the path after onnx=.")
        if source is not None and source.url is not None and _checksum_error(path, source) is None:
            return _from_url(source, model, settings, path)  # what the address would give: the same key
        return from_file(path)
    if source is None:
        raise AxforgeError(
            "The descriptor does not say where the ONNX comes from.",
            where=model,
            fix="Give the file: --onnx PATH, or add `source` to the model.json.",
        )
    if source.file is not None:
        return from_file(locate(source.file, model, settings))
    if source.url is not None:
        return _from_url(source, model, settings, _local_copy(source, settings))
    assert source.builder is not None
    return _from_builder(source.builder, source.reads, model, settings)


def locate(relative: str, model: str, settings: Settings) -> Path:
    """A file that a descriptor names below the data root. Raises AxforgeError that says where it was looked for."""
    if settings.data_root is None and not Path(relative).is_absolute():
        raise AxforgeError(
            f"{model} needs the file {relative}, and no data root is set.",
            fix="Name the folder that has it with --data-root or AXFORGE_DATA_ROOT, or give the model: --onnx PATH.",
        )
    path = (settings.data_root or Path()) / relative
    if not path.is_file():
        raise AxforgeError(
            f"{model} needs this file, and it is not there.",
            where=str(path),
            fix="Put it there, set another data root with --data-root or AXFORGE_DATA_ROOT, or give it: --onnx PATH.",
        )
    return path


# --- files ---------------------------------------------------------------------------------------------------------------------


def from_file(path: Path) -> Origin:
    """An ONNX file with its external data, if it has any."""
    tensors = external_files(path)
    files = {OUTPUT: path} | {f"external data {name}": file for name, file in tensors.items()}
    if not tensors:
        return Origin(files, lambda out, progress: _copy(path, out))
    return Origin(files, lambda out, progress: _pull_in(path, out), libraries=("onnx",), entries=(__name__,))


def external_files(path: Path) -> dict[str, Path]:
    """Files that hold tensors of the model at `path`, by location. Refuses locations outside its folder, and files that are not ONNX."""
    try:
        status = path.stat()
    except OSError as error:
        raise AxforgeError(f"The file cannot be read: {error.strerror}.", where=str(path)) from error
    return dict(_external_files(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))


@cache
def _external_files(path: Path, status: tuple[int, ...]) -> dict[str, Path]:
    """The same of a file with that status; several stages ask, and reading a large model takes long."""
    import onnx  # slow to load; a checksum or a builder is looked at without it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # with onnx
    from onnx.external_data_helper import uses_external_data  # with onnx

    from axforge.axcompiler.onnx_graph.tensors import tensors  # with onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise AxforgeError("This is not an ONNX file, or it is damaged.", where=str(path), fix="Export or copy it again.") from error
    except OSError as error:
        raise AxforgeError(f"The file cannot be read: {error.strerror}.", where=str(path)) from error
    if not model.graph.node and not model.graph.output:
        raise AxforgeError("This is not an ONNX file, or it is empty: it has no graph.", where=str(path), fix="Export or copy it again.")
    found: dict[str, Path] = {}
    for tensor in tensors(model):
        if uses_external_data(tensor):
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            found[location] = _inside(path, location)
    return dict(sorted(found.items()))


def _inside(model: Path, location: str) -> Path:
    folder = model.parent.resolve()
    target = (folder / location).resolve()
    if not location or Path(location).is_absolute() or "\\" in location or folder not in target.parents:
        raise AxforgeError(
            f"Its external data {location!r} is outside the model's folder.", where=str(model), fix="Export it with its data beside it."
        )
    if not target.is_file():
        raise AxforgeError(f"Its external data {location!r} is missing.", where=str(model), fix=f"Put the file beside it: {target}.")
    return target


def _copy(path: Path, out: Path) -> None:
    shutil.copyfile(path, out)


def _pull_in(path: Path, out: Path) -> None:
    import onnx  # slow to load; a checksum or a builder is looked at without it

    model = onnx.load(path)
    if model.ByteSize() >= 2**31:
        raise AxforgeError(
            "The model is larger than 2 GiB, more than one ONNX file can hold.",
            where=str(path),
            fix="Split it, or store weights as float16.",
        )
    out.write_bytes(model.SerializeToString(deterministic=True))


# --- addresses -----------------------------------------------------------------------------------------------------------------


def _from_url(source: "Source", model: str, settings: Settings, local: Path | None) -> Origin:
    facts = {"sha256": source.sha256} if source.sha256 else {"md5": source.md5}

    def write(out: Path, progress: Progress) -> None:
        if local is not None:
            shutil.copyfile(local, out)
        else:
            _download(source, out, model, settings, progress)
        external_files(out)
        if (error := _checksum_error(out, source)) is not None:
            raise error

    return Origin({}, write, facts=facts)


def _file_name(url: str) -> str:
    return url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]


def _local_copy(source: "Source", settings: Settings) -> Path | None:
    """The file that the address would give, where the user has put it."""
    if settings.data_root is None or source.url is None:
        return None
    path = settings.data_root / "models" / _file_name(source.url)
    return path if path.is_file() and _checksum_error(path, source) is None else None


def _checksum_error(path: Path, source: "Source") -> AxforgeError | None:
    for name, wanted in (("sha256", source.sha256), ("md5", source.md5)):
        if wanted is None:
            continue
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda name=name: hashlib.new(name, usedforsecurity=False)).hexdigest()  # type: ignore[misc]
        if found != wanted:
            what = f"The file's {name} is {found}, and the descriptor asks for {wanted}."
            return AxforgeError(what, where=source.url or str(path), fix="Correct the descriptor, or get the file from somewhere else.")
    return None


def _download(source: "Source", out: Path, model: str, settings: Settings, progress: Progress) -> None:
    from http.client import HTTPException  # these two are slow to import, and few models need them

    from axforge.tasks.stages.download import download

    assert source.url is not None
    kept = settings.build_root / DOWNLOADS / f"{source.sha256 or source.md5}.part"
    try:
        if download(source.url, out, progress, kept) and _checksum_error(out, source) is not None:
            download(source.url, out, progress)  # the pieces are of different files
    except (OSError, ValueError, HTTPException) as error:
        root = settings.data_root or Path("DATA_ROOT")
        check = f"sha256 {source.sha256}" if source.sha256 else f"md5 {source.md5}"
        raise AxforgeError(
            f"{model} could not be downloaded: {getattr(error, 'reason', None) or error}.",
            where=source.url,
            fix=f"Get that file ({check}) and put it at {root / 'models' / _file_name(source.url)}"
            f"{'' if settings.data_root else ' (with --data-root or AXFORGE_DATA_ROOT)'}, or give it: --onnx PATH.",
        ) from error


# --- builders ------------------------------------------------------------------------------------------------------------------


def _from_builder(name: str, reads: tuple[str, ...], model: str, settings: Settings) -> Origin:
    module_name, _, function_name = name.partition(":")
    if not (module_name.startswith(SHIPPED_BUILDERS) or module_name in settings.builders):
        raise AxforgeError(
            f"The builder {name!r} is neither one of axforge's nor one that this project allows.",
            where=model,
            fix=f"If you trust this code, allow it in your dodo.py: axforge.tasks.allow_builders({module_name!r}).",
        )
    files = {f"data {relative}": locate(relative, model, settings) for relative in reads}
    shipped = module_name.startswith(SHIPPED_BUILDERS)
    files |= {f"code {path.name}": path for path in _code(module_name, model) if not shipped}
    module = importlib.import_module(module_name)
    build = getattr(module, function_name, None)
    # a function of the module itself, not one that it merely imports
    if not inspect.isfunction(build) or build.__module__ != module_name or function_name.startswith("_"):
        raise AxforgeError(f"The builder {name!r} does not exist.", where=model, fix=f"Write it: {function_name} in {module_name}.")
    if hasattr(module, "checkpoint_path"):  # a builder that reads a file of an installed package says which
        files["weights"] = module.checkpoint_path()
    entries = (module_name,) if shipped else ()
    facts = {"builder": name}
    return Origin(files, lambda out, progress: build(settings.data_root, out), facts=facts, libraries=("numpy", "onnx"), entries=entries)


def _code(module_name: str, model: str) -> list[Path]:
    """The Python files of the package that a builder's module is in."""
    try:
        spec = importlib.util.find_spec(module_name)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise AxforgeError(f"The builder's module {module_name!r} is not there.", where=model, fix="Correct `source.builder`.")
    path = Path(spec.origin)
    return sorted(path.parent.glob("*.py")) if "." in module_name else [path]
