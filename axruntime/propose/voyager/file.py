"""A YAML file as plain values, within limits: a small file can describe an endless or an enormous document."""

from pathlib import Path

import yaml

from axforge.axcompiler.errors import AxforgeError

#: A network's file has some hundred lines.
MAX_BYTES = 1 << 20
#: Values in it, each counted as often as an alias repeats it.
MAX_VALUES = 20_000


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping in a YAML file. Raises AxforgeError for a file that is not one, is too large, or would become too large."""
    if not path.is_file():
        raise AxforgeError(
            "There is no such file." if not path.exists() else "This is not a file.", where=str(path), fix="Name a YAML file."
        )
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise AxforgeError(f"The file has more than {MAX_BYTES >> 20} MiB.", where=str(path), fix="Name the YAML of one network.")
        value = _parsed(data.decode("utf-8"), path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AxforgeError(f"The file cannot be read as YAML: {reason}", where=str(path)) from error
    except RecursionError:
        raise AxforgeError("The YAML is nested too deeply.", where=str(path)) from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise AxforgeError("The YAML is not a mapping of names.", where=str(path), fix="Name the YAML of a network.")
    return value


def _parsed(text: str, path: Path) -> object:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is not None and _values(node, {}) > MAX_VALUES:
            raise AxforgeError(f"The YAML describes more than {MAX_VALUES} values.", where=str(path), fix="Write it without aliases.")
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for when its aliases are written out. Raises ValueError for one that contains itself.

    known: the answer for each node by its id; None while it is being counted.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = None
        children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_values(child, known) for child in children)
    count = known[id(node)]
    if count is None:
        raise ValueError("it contains itself")
    return count
