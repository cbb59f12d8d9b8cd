"""The engine `onnx`: the fp32 model, run by onnxruntime on this CPU. What the int8 engines are judged against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.numerics import Array

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxEngine:
    """An ONNX model as an `Engine`. threads: of one operator (0: as many as cores)."""

    name = "onnx"

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not path.is_file():
            raise AxforgeError("there is no such file", where=str(path), fix="Check the path of the ONNX.")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime raises a dozen unrelated classes for a bad model
            raise AxforgeError(
                f"onnxruntime cannot load the model: {e}", where=str(path), fix="Check that it is a complete ONNX file."
            ) from e
        self._path = path
        self.inputs = {i.name: _signature(i, path) for i in self._session.get_inputs()}
        self.outputs = {o.name: _signature(o, path) for o in self._session.get_outputs()}
        self.quantization: dict[str, tuple[float, int]] = {}

    def run(self, feeds: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """Outputs by name. `raw` changes nothing: nothing is quantized here. Raises AxforgeError on a feed that does not fit."""
        missing = sorted(set(self.inputs) - set(feeds))
        if missing:
            raise AxforgeError(f"input '{missing[0]}' is missing", where=str(self._path), fix=f"Inputs are: {', '.join(self.inputs)}.")
        given = {name: np.asarray(feeds[name], np.dtype(dtype)) for name, (_, dtype) in self.inputs.items()}
        for name, (shape, _) in self.inputs.items():
            got = given[name].shape
            if len(got) != len(shape) or any(want not in (-1, have) for want, have in zip(shape, got, strict=True)):
                raise AxforgeError(f"input '{name}' has shape {list(got)} and must have {list(shape)}", where=str(self._path))
        results = self._session.run(list(self.outputs), given)
        return dict(zip(self.outputs, results, strict=True))

    def close(self) -> None:
        """Free the session."""
        del self._session


class _NodeArgument(Protocol):
    """What onnxruntime says of an input or output; a length that is not a number is free."""

    name: str
    type: str
    shape: list[int | str | None]


def _signature(value: _NodeArgument, path: Path) -> tuple[tuple[int, ...], str]:
    if value.type not in _DTYPES:
        raise AxforgeError(f"'{value.name}' has type {value.type}, which no pipeline can feed or read", where=str(path))
    return tuple(d if isinstance(d, int) else -1 for d in value.shape), _DTYPES[value.type]
