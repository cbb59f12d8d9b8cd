"""The files of a compiled model: of a folder, or inside one zip file, which is read in place and never extracted."""

import io
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import NoReturn, Protocol

from axforge.axcompiler import container
from axforge.axcompiler.container import Buffer
from axforge.axcompiler.errors import AxforgeError, FormatError

#: Far above what any model needs, far below what hurts a machine.
MAX_FILES = 64
MAX_MODEL_BYTES = 4 << 30
MAX_TEXT_BYTES = 32 << 20
#: Int8 weights hardly shrink; only made-up data shrinks a hundredfold.
MAX_RATIO = 100
_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_FIX = "Make it again with `axmodel bundle FOLDER -o FILE.zip`."


class ModelFiles(Protocol):
    """where: the folder or the zip, for messages."""

    where: str

    def read(self, name: str) -> Buffer | None:
        """The bytes of a file; None when there is none of this name. Raises AxforgeError when it cannot be read."""
        ...

    def names(self) -> list[str]:
        """The files that are there, sorted."""
        ...


class FolderFiles:
    """The files directly in a folder. A model is mapped into memory and not copied."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)

    def read(self, name: str) -> Buffer | None:
        path = self.folder / name
        if PurePosixPath(name).name != name or not path.is_file():
            return None
        if path.suffix == ".axmodel":
            return container.mapped(path)
        try:
            return path.read_bytes()
        except OSError as e:
            raise AxforgeError(f"the file cannot be read: {e.strerror}", where=str(path)) from e

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))


class ZipFiles:
    """The files of a zip. It comes from anywhere: names, kinds and sizes are checked before anything is unpacked, into memory only.

    zipped: its path, or its bytes, where it is a file of another zip or folder; where: what messages call it.
    """

    def __init__(self, zipped: Path | bytes, where: str = "") -> None:
        self._zipped, self.where = zipped, where or str(zipped)
        try:
            with self._archive() as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        except OSError as e:
            raise AxforgeError(f"the file cannot be read: {e.strerror or e}", where=self.where) from e
        except _DAMAGED as e:
            self._refuse(f"the zip is damaged: {e}")
        if len(entries) > MAX_FILES:
            self._refuse(f"the zip has {len(entries)} files and a compiled model at most {MAX_FILES}")
        for entry in entries:
            self._check(entry)
        self._entries = self._flat(entries)

    def read(self, name: str) -> Buffer | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        try:
            with self._archive() as archive:
                return archive.read(entry)
        except OSError as e:
            raise AxforgeError(f"the file cannot be read: {e.strerror or e}", where=self.where) from e
        except _DAMAGED as e:
            self._refuse(f"'{name}' in the zip is damaged: {e}")

    def names(self) -> list[str]:
        return sorted(self._entries)

    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._zipped if isinstance(self._zipped, Path) else io.BytesIO(self._zipped))

    def _refuse(self, what: str) -> NoReturn:
        raise FormatError(what, where=self.where, fix=_FIX)

    def _check(self, entry: zipfile.ZipInfo) -> None:
        """Raise FormatError for an entry that no honest bundle has."""
        name, size = entry.filename, entry.file_size
        path = PurePosixPath(name)
        limit = MAX_MODEL_BYTES if path.suffix in (".axmodel", ".zip") else MAX_TEXT_BYTES
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            self._refuse(f"the zip names a place outside itself: '{name}'")
        if S_ISLNK(entry.external_attr >> 16):
            self._refuse(f"'{name}' in the zip is a link")
        if entry.flag_bits & 0x1:
            self._refuse(f"'{name}' in the zip is encrypted")
        if size > limit:
            self._refuse(f"'{name}' in the zip has {size} bytes, more than the {limit} that are allowed")
        if size > MAX_RATIO * entry.compress_size + MAX_TEXT_BYTES:
            self._refuse(f"'{name}' in the zip claims to unpack {entry.compress_size} bytes to {size}")

    def _flat(self, entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """Entries by file name. A zip of a folder has that folder before every name, which does not count."""
        folders = {PurePosixPath(entry.filename).parent for entry in entries}
        if len(folders) > 1:
            self._refuse("the zip has more than one folder")
        found: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = PurePosixPath(entry.filename).name
            if name.casefold() in {other.casefold() for other in found}:
                self._refuse(f"the zip has two files '{name}'")
            found[name] = entry
        return found


def open_files(path: Path) -> ModelFiles:
    """The files of a folder or a zip. Raises AxforgeError."""
    return FolderFiles(path) if path.is_dir() else ZipFiles(path)
