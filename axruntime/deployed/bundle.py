"""One zip of a compiled folder. Nothing in it depends on the clock, the machine or the order of a listing: equal files, equal bytes."""

import io
import zipfile
from pathlib import Path

from axforge.axcompiler import manifest
from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.deployed import attestation
from axforge.axruntime.deployed.files import FolderFiles
from axforge.axruntime.deployed.opening import bundle_name, open_deployed
from axforge.axruntime.pipeline.models import FILE as PIPELINE

#: The first moment that a zip can name.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(folder: Path, target: Path) -> Path:
    """Write the compiled model in `folder`, which is verified first, to the zip `target`. Raises AxforgeError."""
    data = bundled(folder)
    try:
        write_atomic(target, data)
    except OSError as e:
        fix = "Name a folder that can be written, with room on its disk."
        raise AxforgeError(f"the bundle cannot be written: {e.strerror}", where=str(target), fix=fix) from e
    return target


def bundled(folder: Path) -> bytes:
    """The bytes of the zip of the compiled model in `folder`, which is verified first. Raises AxforgeError.

    Files are stored, not compressed: int8 weights hardly shrink, and what a compressor makes of them depends on its version.
    """
    if not folder.is_dir():
        raise AxforgeError("this is not a folder with a compiled model", where=str(folder), fix="Name build/NETWORK/MODEL/CORES.")
    deployed, files = open_deployed(folder), FolderFiles(folder)
    if deployed.descriptor is None:
        raise AxforgeError(f"there is no {PIPELINE} in it", where=str(folder), fix="Publish the model again: doit compile:MODEL.")
    names = [PIPELINE, manifest.FILE, manifest.MODEL_FILE, *_label_file(folder), *map(bundle_name, deployed.others), attestation.FILE]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            if (data := files.read(name)) is not None:
                archive.writestr(_entry(name), bytes(data))
    return buffer.getvalue()


def _label_file(folder: Path) -> list[str]:
    """The label file that a model.json written by hand names; a published one carries its labels."""
    from axforge.axruntime.pipeline.descriptor import parse_descriptor

    written = parse_descriptor((folder / PIPELINE).read_bytes(), str(folder / PIPELINE)).labels
    return [written] if isinstance(written, str) else []


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, wherever it is made
    entry.external_attr = 0o644 << 16
    return entry
