"""The table of published networks for people: found by task, licence and size, shown, and compared with the files that are here."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from axforge.ax_models.zoo import table
from axforge.ax_models.zoo.table import PublishedNetwork
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import BY_NAME
from axforge.tasks.project import zoo
from axforge.tasks.project.command_line import ModelOptions
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.project.settings import Settings
from axforge.tasks.project.suggest import nearest

HEAD = ("network", "task", "picture", "M weights", "accuracy", "int8 loss", "frames/s", "licence", "weights")
#: What is said of a checksum that can be forged.
MD5_ONLY = "MD5 tells damage, and not a forgery; to pin these bytes, name the SHA-256 in a model.json of your own."


@dataclass(frozen=True)
class NetworkSearch:
    """What networks are wanted: all of `words` in the name, and each of the others where it is given.

    license: a part of it, in any case; 'none' for those without one. max_parameters: millions of weights; networks of unknown size do
    not count.
    everything: those that cannot be compiled too. ready: only those whose ONNX has an address.
    """

    words: Sequence[str] = ()
    task: str = ""
    license: str = ""
    max_parameters: float = 0.0
    everything: bool = False
    ready: bool = False

    def found(self) -> list[PublishedNetwork]:
        """The networks, sorted by name. Raises AxforgeError for a task that no network has."""
        tasks = sorted({network.task for network in table.networks()})
        if self.task and self.task not in tasks:
            raise AxforgeError(f"No network has the task {self.task!r}.", fix=nearest(self.task, tasks))
        return [network for network in table.networks() if self._fits(network)]

    def _fits(self, network: PublishedNetwork) -> bool:
        return (
            all(word.lower() in network.name.lower() for word in self.words)
            and self.task in ("", network.task)
            and (self.license.lower() in network.license.lower() if self.license != "none" else not network.license)
            and (not self.max_parameters or (bool(network.parameters) and float(network.parameters) <= self.max_parameters))
            and (self.everything or bool(network.family))
            and (network.downloads or not self.ready)
        )


def row(network: PublishedNetwork, settings: Settings) -> list[str]:
    """A network's line of the table."""
    picture = f"{network.width}x{network.height}" if network.width else ""
    accuracy = f"{network.accuracy} {network.metric}".strip()
    cells = [network.name, network.task, picture, network.parameters, accuracy, network.int8_loss, network.fps, network.license]
    return [cell or "-" for cell in [*cells, weights(network, settings)]]


def weights(network: PublishedNetwork, settings: Settings) -> str:
    """Where the ONNX of a network is, in a word or two."""
    if not network.family:
        return "cannot be compiled"
    if next(copies(network, settings), None):
        return "here"
    return "download" if network.downloads else "give it: --onnx"


def copies(network: PublishedNetwork, settings: Settings) -> Iterator[Path]:
    """Files that are here for the network: what the stage fetch left, and what the user put below the data root."""
    fetched = _fetched(network.name, settings)
    if fetched.is_file():
        yield fetched
    name = network.url.rsplit("/", 1)[-1]
    if settings.data_root is not None and name and (path := settings.data_root / "models" / name).is_file():
        yield path


def find(name: str) -> PublishedNetwork:
    """The network of that name. Raises AxforgeError, with the nearest names."""
    network = table.find(name)
    if network is None:
        fix = nearest(name, [known.name for known in table.networks()])
        raise AxforgeError(f"There is no network {name!r} in the table.", fix=f"{fix} `axforge info MODEL` shows models with a folder.")
    return network


def lines(network: PublishedNetwork, settings: Settings) -> list[str]:
    """All that is known of a network."""
    rows = [(key, value) for key, value in _facts(network, settings) if value]
    width = max(len(key) for key, _ in rows)
    return [network.name, *(f"  {key:{width}}  {value}" for key, value in rows)]


def _facts(network: PublishedNetwork, settings: Settings) -> Iterator[tuple[str, str]]:
    yield "task", network.task
    yield "description", network.description
    yield "picture", network.width and f"{network.width} x {network.height}"
    yield "weights", network.parameters and f"{network.parameters} million"
    yield "licence", network.license or "not published"
    yield "accuracy", network.accuracy and f"{network.metric} {network.accuracy} (fp32 on {network.dataset}, as published)"
    yield "int8 loss", network.int8_loss and f"{network.int8_loss} points, the vendor's"
    yield "speed", network.fps and f"{network.fps} frames per second, the vendor's card"
    yield "address", network.url
    yield "MD5", network.md5
    for path in copies(network, settings):
        yield "here", f"{path} ({path.stat().st_size:,} bytes)"
        yield "SHA-256", _digest(path, "sha256")
    for obstacle in network.obstacles():
        yield "note", obstacle
    if zoo.names(settings).count(network.name):
        yield "note", "A folder of the same name is what compiling takes."


def as_json(networks: Sequence[PublishedNetwork]) -> str:
    """Rows for scripts, with what each lacks."""
    return json.dumps([asdict(network) | {"obstacles": network.obstacles()} for network in networks], indent=2, ensure_ascii=False)


def fetch_task(name: str) -> str:
    """The task that fetches a network. Raises AxforgeError, with the reason, for one that has no ONNX at an address."""
    network = find(name)
    if not network.downloads:
        raise AxforgeError(f"{name} cannot be fetched. {' '.join(network.obstacles())}", fix="`axforge zoo list --ready` shows what can.")
    return f"compile:{name}:fetch"


def fetched_lines(name: str, settings: Settings) -> list[str]:
    """What was fetched, with its checksums."""
    path = _fetched(name, settings)
    if not path.is_file():
        return []
    sums = [f"  MD5      {_digest(path, 'md5')}", f"  SHA-256  {_digest(path, 'sha256')}"]
    return [f"{name}: {path.stat().st_size:,} bytes", *sums, f"  {MD5_ONLY}"]


def problems(network: PublishedNetwork, settings: Settings) -> tuple[list[str], int]:
    """What is wrong with a network's descriptor and its files here, and how many files are here."""
    found = []
    try:
        _ = BuildPlan(zoo.find(network.name, settings), ModelOptions(), settings).descriptor
    except AxforgeError as error:
        found.append(f"{network.name}: {error}")
    here = {path: _digest(path, "md5") for path in copies(network, settings)} if network.downloads else {}
    wrong = [f"{path} has the MD5 {md5}, and the table says {network.md5}" for path, md5 in here.items() if md5 != network.md5]
    return [*found, *(f"{network.name}: {line}. Fetch it again." for line in wrong)], len(here)


def _fetched(name: str, settings: Settings) -> Path:
    stage = BY_NAME["fetch"]
    return settings.build_root / name / name / "stages" / stage.name / stage.outputs[0]


def _digest(path: Path, kind: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise AxforgeError(f"The file cannot be read: {error.strerror}.", where=str(path)) from error
