"""The table of published networks, and the model.json that is made from a row of it."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError

_HERE = Path(__file__).parent
#: Where the published figures come from, for readers of a descriptor.
_PUBLISHED = "the vendor's model zoo 1.8"
#: A value of JSON.
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


@dataclass(frozen=True)
class PublishedNetwork:
    """A row; '' where something is not published. All fields are text, as in the file.

    task: finer than the kind of result (`pose`, `instance-segmentation`). family: in families.json; '' for what cannot be described.
    width, height: of the network's picture. side: of the resize before a crop. parameters: millions of weights. metric, accuracy: of the
    float32 network on `dataset`, in per cent (PSNR: dB). int8_loss: points that the vendor's int8 loses. fps: frames per second
    on the vendor's card. reason: what is missing. md5: of the file at `url`.
    """

    name: str
    task: str
    family: str
    description: str
    width: str
    height: str
    side: str
    classes: str
    parameters: str
    license: str
    dataset: str
    metric: str
    accuracy: str
    int8_loss: str
    fps: str
    reason: str
    md5: str
    url: str

    @property
    def downloads(self) -> bool:
        """Whether the address leads to an ONNX."""
        return bool(self.family) and self.url.endswith(".onnx")

    def obstacles(self) -> list[str]:
        """What cannot be had or is not done, as sentences; none for a network that compiles by its name and gives results."""
        found = [self.reason] if self.reason else []
        if self.family and not self.downloads:
            twin = find(f"{self.name}-onnx")
            where = f"{twin.name} is the same network as ONNX" if twin and twin.downloads else "give it as ONNX: --onnx PATH"
            kind = "The weights are a PyTorch checkpoint, which is not read" if self.url else "No address of its weights is known"
            found.append(f"{kind}; {where}.")
        return found


@cache
def networks() -> tuple[PublishedNetwork, ...]:
    """All rows, sorted by name."""
    with (_HERE / "networks.csv").open(newline="", encoding="utf-8") as stream:
        return tuple(PublishedNetwork(**row) for row in csv.DictReader(stream))


@cache
def _by_name() -> dict[str, PublishedNetwork]:
    return {network.name: network for network in networks()}


def find(name: str) -> PublishedNetwork | None:
    """The row of that name."""
    return _by_name().get(name)


def names() -> Sequence[str]:
    """Names of the networks that a model.json can be made for, sorted."""
    return [network.name for network in networks() if network.family]


@cache
def families() -> dict[str, dict[str, Json]]:
    """The templates by name of the family: parts of a model.json in which `$width`, `$height`, `$side` and `$classes` are of a row.

    input: the name of the network's input, where all files of the family have the same.
    """
    found: dict[str, dict[str, Json]] = json.loads((_HERE / "families.json").read_bytes())
    return found


def document(network: PublishedNetwork) -> dict[str, Json]:
    """The model.json of a row. Raises AxforgeError, with the reason, for one that cannot be described."""
    if not network.family:
        fix = "`axforge zoo list` shows the networks that compile."
        raise AxforgeError(f"{network.name} is in the table of networks, but cannot be compiled. {network.reason}", fix=fix)
    parts = {key: _filled(value, network) for key, value in families()[network.family].items()}
    given = parts.pop("input", None)
    made: dict[str, Json] = {"name": network.name, "model": f"{network.name}/1/model.axmodel", "description": network.description}
    if network.downloads:
        made["source"] = {"url": network.url, "md5": network.md5}
    made |= parts
    if given:
        made["compile"] = {"check": {"input_shapes": {str(given): [1, 3, int(network.height), int(network.width)]}}}
    made["license"] = network.license
    if network.accuracy and network.metric != "PSNR":
        source = f"fp32 on {network.dataset}, {_PUBLISHED}"
        made["reference"] = [{"metric": network.metric, "value": float(network.accuracy), "source": source}]
    return made


def text(network: PublishedNetwork) -> bytes:
    """The model.json of a row as a file. Raises AxforgeError for one that cannot be described."""
    return json.dumps(document(network), indent=2, ensure_ascii=False).encode() + b"\n"


def _filled(value: Json, network: PublishedNetwork) -> Json:
    if isinstance(value, dict):
        return {key: _filled(part, network) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, network) for part in value]
    return int(getattr(network, value[1:])) if isinstance(value, str) and value.startswith("$") else value
