"""What the cache stores and uploads when a head is trained again five times: whole files, against chunks and against one blob a tensor.

    python benchmarks/cache_chunks.py [--model efficientnet_lite0-imagenet] [--times 5] [--folder /tmp/somewhere]

The model is compiled once, then with new random values in the last layer that has weights (as after five trainings of a head on a frozen
backbone), each through all seven stages into one cache of its own. Then the contents of that cache are counted in three ways:

files     each content once, as the cache folder does
tensors   each tensor of an ONNX or of a graph.axgraph once, 1 kB or more; the rest of the file, and other files, whole
chunks    contents of 4 MB or more in pieces cut by their content, of 64 kB, 256 kB and 1 MB on average; 1 MB is what a remote gets

Pieces are what a client asks a remote for, one by one, before it uploads what is missing; of a re-training, how many. No time is
measured: the figures are bytes, and the same on every machine, up to the last bits of float32 in calibration.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[0] = str(REPOSITORY)  # this folder has a file with the name of a package

from axforge.axcompiler import graphfile  # noqa: E402
from axforge.cache.config import Config, open_store  # noqa: E402
from axforge.cache.remote import chunks  # noqa: E402
from axforge.cache.scan import entries  # noqa: E402

SMALL = 1024
#: From a content and its file name to its pieces.
Split = Callable[[bytes, str], Iterator[bytes]]


def whole(data: bytes, name: str) -> Iterator[bytes]:
    """The content as it is."""
    yield data


def in_pieces(data: bytes, name: str, bits: int) -> Iterator[bytes]:
    """The pieces of a large content, two to the power of `bits` bytes on average."""
    if len(data) < chunks.LARGE:
        yield data
    else:
        yield from map(bytes, chunks.cut(memoryview(data), bits))


def tensors(data: bytes, name: str) -> Iterator[bytes]:
    """The tensors of a file, then what is left of it."""
    found: list[bytes] = []
    if name.endswith(".onnx"):
        found = [tensor.raw_data for tensor in onnx.load_from_string(data).graph.initializer]
    elif name.endswith(".axgraph"):
        with tempfile.NamedTemporaryFile(suffix=".axgraph") as file:
            file.write(data)
            file.flush()
            found = [np.ascontiguousarray(array).tobytes() for array in graphfile.load(Path(file.name)).constants.values()]
    rest = bytearray(data)
    for tensor in found:
        at = rest.find(tensor) if len(tensor) >= SMALL else -1
        if at >= 0:
            del rest[at : at + len(tensor)]
            yield tensor
    yield bytes(rest)


def retrained(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with other weights in the last layer that has any, of the same scale."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = {tensor.name: tensor for tensor in copy.graph.initializer}
    layers = [node for node in copy.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in names]
    tensor = names[layers[-1].input[1]]
    values = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(seed).normal(0, float(values.std()), values.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array((values + 0.1 * noise).astype(np.float32), tensor.name))
    return copy


def build(model: str, times: int, folder: Path) -> list[dict[str, bytes]]:
    """Compile the model and its re-trainings; gives the new contents of each build, by file name and hash."""
    environment = {**os.environ, "AXFORGE_CACHE_DIR": str(folder / "cache"), "AXFORGE_BUILD_ROOT": str(folder / "build")}
    command = [sys.executable, "-m", "axforge.cli.main", "compile", model, "--effort", "fast", "--num-cal-images", "16"]
    new: list[dict[str, bytes]] = []
    seen: set[str] = set()
    for number in range(times + 1):
        more: list[str] = []
        if number:
            origin = onnx.load(next((folder / "base").glob("*.onnx")))
            onnx.save(retrained(origin, number), folder / "retrained.onnx")
            more = ["--onnx", str(folder / "retrained.onnx")]
        subprocess.run([*command, *more], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        store = open_store(folder, config=Config(folder / "cache"))
        found = {output.sha256: output.name for entry in entries(store) for output in entry.record.outputs if output.sha256 not in seen}
        seen |= set(found)
        new.append({f"{name} {content}": store.layout.blob(content).read_bytes() for content, name in found.items()})
        if not number:
            (folder / "base").mkdir()
            (folder / "base" / "model.onnx").write_bytes(next(data for key, data in new[0].items() if key.startswith("model.onnx ")))
    return new


def main() -> None:
    """Build, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet_lite0-imagenet")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        builds = build(options.model, options.times, Path(name))
    print(f"{options.model}, first build and {options.times} re-trainings of the last layer; MB")
    print(f"{'way':<18}{'first':>9}{'each later':>12}{'all':>9}{'pieces':>9}")
    ways: list[tuple[str, Split]] = [("files", whole), ("tensors", tensors)]
    ways += [(f"chunks of {title}", partial(in_pieces, bits=bits)) for title, bits in (("64 kB", 16), ("256 kB", 18), ("1 MB", 20))]
    for title, split in ways:
        stored: dict[str, int] = {}
        sizes, pieces = [], 0
        for contents in builds:
            before, pieces = sum(stored.values()), 0
            for key, data in contents.items():
                for piece in split(data, key.partition(" ")[0]):
                    pieces += 1
                    stored[hashlib.sha256(piece).hexdigest()] = len(piece)
            sizes.append(sum(stored.values()) - before)
        later = sum(sizes[1:]) / max(1, len(sizes) - 1)
        print(f"{title:<18}{sizes[0] / 1e6:9.1f}{later / 1e6:12.1f}{sum(sizes) / 1e6:9.1f}{pieces:9}")
    print("\nnew bytes of the last re-training by file, MB")
    for key, data in sorted(builds[-1].items(), key=lambda item: -len(item[1])):
        print(f"  {key.partition(' ')[0]:<22}{len(data) / 1e6:8.2f}")


if __name__ == "__main__":
    main()
