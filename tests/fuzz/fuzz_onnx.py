"""Mutates ONNX files and compiles them: `python tests/fuzz/fuzz_onnx.py [SECONDS] [SEED]`.

The corpus is the hand-made models of `hostile_models.py`. A mutant must be compiled, and then run on the host engine as on the reference,
or be refused with a sentence; any other exception is written beside the mutant into a folder that the last line names, and the status is
1. A crash ends the process: the mutant that was tried is then the file `now.onnx` of that folder.
"""

import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "host")]

import onnx  # noqa: E402 - the folders of the tests come first
from google.protobuf.message import DecodeError  # noqa: E402 - the folders of the tests come first
from hostile_models import HOSTILE  # noqa: E402 - the folders of the tests come first
from test_host_hostile import verdict  # noqa: E402 - the folders of the tests come first

NUMBERS = (0, 1, -1, 2, 7, 64, 255, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, -(2**63))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four edits: of bytes, or of what the message says."""
    for _ in range(rng.randint(1, 4)):
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError:
            return data
        data = _bytes_edited(data, rng) if rng.random() < 0.15 or not model.graph.node else _message_edited(model, rng)
    return data


def _bytes_edited(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) or 1)
    return data[:at] + rng.randbytes(rng.randint(0, 3)) + data[at + rng.randint(0, 3) :]


def _message_edited(model: onnx.ModelProto, rng: random.Random) -> bytes:
    graph, node = model.graph, rng.choice(model.graph.node)
    kind = rng.randrange(7)
    if kind == 0 and node.attribute:
        attribute = rng.choice(node.attribute)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
        else:
            attribute.i = rng.choice(NUMBERS)
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(["", *(o for n in graph.node for o in n.output), "x"])
    elif kind == 2 and graph.initializer:
        dims = rng.choice(graph.initializer).dims
        dims.append(rng.choice(NUMBERS)) if not dims or rng.random() < 0.3 else dims.__setitem__(
            rng.randrange(len(dims)), rng.choice(NUMBERS)
        )
    elif kind == 3 and graph.initializer:
        rng.choice(graph.initializer).data_type = rng.randint(0, 23)
    elif kind == 4:
        graph.node.append(node)
    elif kind == 5:
        node.op_type = rng.choice(["Conv", "Relu", "Add", "MatMul", "Reshape", "Slice", "Softmax", "Concat", "MaxPool", "Resize", "Gather"])
    elif graph.input and graph.input[0].type.tensor_type.shape.dim:
        rng.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = rng.choice(NUMBERS)
    return model.SerializeToString()


def fuzz(seconds: float, seed: int, folder: Path) -> tuple[int, list[Path]]:
    """How many mutants were tried in this time, and the files of those that failed."""
    rng, corpus = random.Random(seed), [make().SerializeToString() for make in HOSTILE.values()]
    tried, failed, end = 0, list[Path](), time.monotonic() + seconds
    while time.monotonic() < end:
        path = folder / "now.onnx"
        path.write_bytes(mutated(rng.choice(corpus), rng))
        tried += 1
        with tempfile.TemporaryDirectory() as work:
            try:
                verdict(path, Path(work), runs=tried % 4 == 0)
            except Exception:
                failed.append(path.rename(folder / f"failed{len(failed)}.onnx"))
                failed[-1].with_suffix(".txt").write_text(traceback.format_exc())
    return tried, failed


def main() -> int:
    """Fuzzes, and says what was found."""
    seconds, seed = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0
    folder = Path(tempfile.mkdtemp(prefix="axforge-fuzz-"))
    tried, failed = fuzz(seconds, seed, folder)
    print(f"{tried} mutants, {len(failed)} failed; see {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
