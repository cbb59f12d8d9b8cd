"""Opens a compiled model, wherever it was copied to, and verifies that its files belong together and are as they were published."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from axforge.axcompiler import container, manifest
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axcompiler.manifest import Manifest
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.deployed import seal
from axforge.axruntime.deployed.files import FolderFiles, ModelFiles, ZipFiles, open_files
from axforge.axruntime.pipeline.models import FILE as PIPELINE

if TYPE_CHECKING:
    from axforge.axruntime.pipeline.descriptor import Descriptor

_ZIP = b"PK"
#: Models that run models that run models: deeper is a file that contains itself.
_DEEPEST = 4
_ADVICE = "Publish the model again (doit compile:MODEL), or copy it again from where it came from."


@dataclass(frozen=True)
class Deployed:
    """A compiled model that can run.

    where: what was opened, for messages. data: the bytes of the `.axmodel`, which is `model`. descriptor: its pipeline, labels read;
    manifest: its typed manifest.json, which agrees with the model. Both are None where the file is absent: such a model runs on arrays.
    others: by name, the models that its pipeline runs on parts of a picture; each is a bundle beside it.
    """

    where: str
    data: Buffer
    model: AxModel
    descriptor: "Descriptor | None"
    manifest: Manifest | None
    others: "Mapping[str, Deployed]" = field(default_factory=dict)


def bundle_name(model: str) -> str:
    """The file beside a compiled model that holds another one, `model`, which its pipeline runs."""
    return f"{model}.zip"


def open_deployed(path: Path | str) -> Deployed:
    """The compiled model at `path`: a folder with `model.axmodel`, a zip of one, or an `.axmodel` (with what is beside it).

    Raises AxforgeError, one sentence, when a file is missing, damaged, was edited after it was published, or contradicts another.
    """
    path = _existing(path)
    if path.is_dir() or path.suffix == ".zip" or _begins(path) == _ZIP:
        return _opened(open_files(path), manifest.MODEL_FILE)
    return _opened(_Beside(path), path.name)


class _Beside(FolderFiles):
    """A bare `.axmodel` with what is beside it. A manifest.json that is of another file is not its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self.where, self._name = str(path), path.name

    def read(self, name: str) -> Buffer | None:
        if name == self._name:
            return container.mapped(self.folder / name)
        return None if self._name != manifest.MODEL_FILE and name == manifest.FILE else super().read(name)


def _existing(path: Path | str) -> Path:
    if not isinstance(path, Path | str):
        raise AxforgeError(f"a model is named by a path, not by a value of type {type(path).__name__}", fix="Give a str or a pathlib.Path.")
    found = Path(path)
    if not str(path):
        raise AxforgeError("the path of the model is empty", fix="Name a compiled folder, a zip of one, or an .axmodel.")
    try:
        exists = found.exists()
    except OSError as e:  # a name that is too long, a folder that may not be read
        raise AxforgeError(f"the path cannot be read: {e.strerror}", where=str(path)[:200]) from e
    if not exists:
        raise AxforgeError("there is no such file or folder", where=str(path), fix="Check the path.")
    return found


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP))
    except OSError as e:
        raise AxforgeError(f"the file cannot be read: {e.strerror}", where=str(path)) from e


def _opened(files: ModelFiles, name: str, depth: int = 0) -> Deployed:
    data, written = files.read(name), files.read(manifest.FILE)
    if data is None:
        raise AxforgeError(f"there is no {name} in it", where=files.where, fix=_where_it_may_be(files))
    model = AxModel.of(data, Path(files.where) if files.where.endswith(name) else Path(files.where) / name)
    document = files.read(PIPELINE)
    descriptor = None if document is None else _descriptor(bytes(document), files)
    sealed = document if descriptor is not None and descriptor.published else None
    if sealed is not None:
        _unedited(bytes(sealed), manifest.MODEL_FILE, data, files.where)
    described = None if written is None else _manifest(bytes(written), model, files.where)  # says more of an edit than the seal
    if sealed is not None and written is not None:
        _unedited(bytes(sealed), manifest.FILE, written, files.where)
    others = {} if descriptor is None else {other: _other(files, other, sealed, depth) for other in descriptor.models_run}
    return Deployed(files.where, data, model, descriptor, described, others)


def _other(files: ModelFiles, name: str, sealed: Buffer | None, depth: int) -> Deployed:
    """The model `name` that the pipeline of another one runs. Raises AxforgeError when it is missing, damaged or was edited."""
    data = files.read(bundle_name(name))
    if data is None:
        what = f"its pipeline runs the model '{name}', and there is no {bundle_name(name)} in it"
        raise AxforgeError(what, where=files.where, fix=_ADVICE)
    if depth >= _DEEPEST:
        raise FormatError("models run each other more than four deep", where=files.where, fix="Name no model that runs this one.")
    if sealed is not None:
        _unedited(bytes(sealed), bundle_name(name), data, files.where)
    return _opened(ZipFiles(bytes(data), f"{files.where}/{bundle_name(name)}"), manifest.MODEL_FILE, depth + 1)


def _where_it_may_be(files: ModelFiles) -> str:
    if isinstance(files, FolderFiles):
        for pattern in ("*", "*/*", "*/*/*"):  # build/NETWORK/MODEL/CORES
            if near := sorted(files.folder.glob(f"{pattern}/{manifest.MODEL_FILE}")):
                return f"Did you mean {near[0].parent}?"
    return f"Files that are there: {', '.join(files.names()[:9]) or 'none'}."


def _descriptor(document: bytes, files: ModelFiles) -> "Descriptor":
    import msgspec

    from axforge.axruntime.pipeline import labels
    from axforge.axruntime.pipeline.descriptor import parse_descriptor  # heavy, and a bare .axmodel has none

    where = f"{files.where}/{PIPELINE}"
    descriptor = parse_descriptor(document, where)
    if isinstance(descriptor.labels, tuple):
        return descriptor
    text = files.read(descriptor.labels)
    if text is None:
        raise AxforgeError(f"the label file '{descriptor.labels}' is not in it", where=f"{where}: labels", fix=_ADVICE)
    return msgspec.structs.replace(descriptor, labels=labels.parse(bytes(text), f"{files.where}/{descriptor.labels}"))


def _unedited(document: bytes, name: str, content: Buffer, where: str) -> None:
    if edited := seal.broken(document, {name: hashlib.sha256(content).hexdigest()}):
        fix = f'{_ADVICE} If the change is meant, remove the key "{seal.KEY}" from {PIPELINE}.'
        raise FormatError(f"{edited} was edited after it was published", where=where, fix=fix)


def _manifest(data: bytes, model: AxModel, where: str) -> Manifest:
    """The manifest in `data`. Raises FormatError when it says something that the `.axmodel` does not."""
    read = manifest.parse(data, f"{where}/{manifest.FILE}")
    real = manifest.describe(model.graph, model.header, model.meta.name, model.meta.sdk_version)
    for wrong in manifest.contradictions(read, real):
        what = f"{manifest.FILE} says {wrong.key} is {_shown(wrong.written)}, and {manifest.MODEL_FILE} says {_shown(wrong.real)}"
        raise FormatError(what, where=where, fix=_ADVICE)
    return read


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
