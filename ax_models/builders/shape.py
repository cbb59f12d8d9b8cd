"""Real network graphs whose large weights are left out: `*.shape.onnx` files with seeded random values filled in.

In such a file a weight has no data, only a doc_string `normal std=S`. Speed, memory and scheduling do not depend on the values.
"""

import zlib
from pathlib import Path

import numpy as np
import onnx

from axforge.ax_models.builders.graph import save
from axforge.axcompiler.errors import AxforgeError

MARK = "normal std="


def fill(path: Path) -> onnx.ModelProto:
    """The model at `path` with each marked weight drawn from N(0, std²), seeded by the CRC-32 of the weight's name.

    Raises AxforgeError if there is no such file, or it is not an ONNX model.
    """
    try:
        model = onnx.load(path)
    except OSError as e:
        raise AxforgeError(
            f"the graph cannot be read: {e.strerror}", where=str(path), fix="Give the folder that has it as data root."
        ) from e
    except Exception as e:  # protobuf has no public base class for decode errors
        raise AxforgeError(f"this is not an ONNX model: {e}", where=str(path), fix="Copy the file again.") from e
    for tensor in model.graph.initializer:
        if tensor.doc_string.startswith(MARK):
            std = np.float32(float(tensor.doc_string.removeprefix(MARK)))
            rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
            values = rng.standard_normal(tuple(tensor.dims), dtype=np.float32) * std
            tensor.raw_data = values.astype("<f4").tobytes()
            tensor.doc_string = ""
    return model


def _build(data_root: Path | None, name: str, out: Path) -> None:
    if data_root is None:
        raise AxforgeError(
            f"the graph of {name} is looked for in the data root, and there is none",
            where=f"models/shape/{name}.shape.onnx",
            fix="Name the folder with --data-root or AXFORGE_DATA_ROOT.",
        )
    save(fill(data_root / "models" / "shape" / f"{name}.shape.onnx"), out)


def yolov5s(data_root: Path | None, out: Path) -> None:
    """Write YOLOv5s at 640x640, heads and decoding in the graph: images [1, 3, 640, 640] -> out [1, 25200, 85]."""
    _build(data_root, "yolov5s", out)
