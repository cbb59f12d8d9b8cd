"""A proposal as files: `<folder>/<name>/model.json` and its labels."""

import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from axforge.axcompiler import container
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.descriptor import Descriptor, parse_descriptor
from axforge.axruntime.pipeline.models import FILE
from axforge.axruntime.propose.proposal import Proposal


def document(descriptor: Descriptor) -> bytes:
    """`descriptor` as the text of a model.json without what is default, checked as if a user had written it. Raises AxforgeError."""
    text = msgspec.json.format(msgspec.json.encode(_without_defaults(descriptor)), indent=2) + b"\n"
    parse_descriptor(text, FILE)
    return text


def _without_defaults(value: object) -> object:
    """Plain values for JSON: structs as mappings of the fields that differ from their defaults, their tag first."""
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        known = {"type": tag} if isinstance(tag, str) else {}
        fields = msgspec.structs.fields(type(value))
        return known | {f.encode_name: _without_defaults(v) for f in fields if (v := getattr(value, f.name)) != _default(f)}
    return [_without_defaults(item) for item in value] if isinstance(value, tuple) else value


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def write(proposal: Proposal, folder: Path, *, replace: bool = False) -> Path:
    """Write the model's folder below `folder`; gives the path of its model.json. A failure leaves everything as it was.

    replace: overwrite what is there. Raises AxforgeError when it is there and may not be replaced, or cannot be written.
    """
    target = folder / proposal.descriptor.name
    files = {name: text.encode() for name, text in proposal.files.items()} | {FILE: document(proposal.descriptor)}
    taken = [name for name in files if (target / name).exists()]
    if taken and not replace:
        fix = "Choose another folder with -o or another name with --name, or overwrite it with --force."
        raise AxforgeError(f"There is a {taken[0]} already.", where=str(target / taken[0]), fix=fix)
    try:
        _publish(files, target)
    except OSError as e:
        raise AxforgeError(f"The files cannot be written: {e.strerror}.", where=str(target)) from e
    return target / FILE


def _publish(files: dict[str, bytes], target: Path) -> None:
    if target.exists():
        for name, data in files.items():  # model.json last: it names the others
            container.write_atomic(target / name, data)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """The permissions that new folders do not get; mkdtemp ignores them and gives its owner alone access."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
