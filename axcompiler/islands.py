"""CPU islands: the float32 parts of a graph, run by onnxruntime between two conversions.

One function for every engine, so that islands cannot differ between them.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from axforge.axcompiler import numerics
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.external import refers_outside
from axforge.axcompiler.ir import Graph, Island, Tensor
from axforge.axcompiler.numerics import Array


class Session(Protocol):
    """What is used of an onnxruntime session."""

    def run(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        """The results called `names`."""
        ...


#: seconds that one run of a model with a Loop may take: its condition may never become false
LONGEST_RUN = 30.0
#: what is in the bytes of a node whose op_type (field 4) is Loop
_LOOP = b"\x22\x04Loop"


class _BoundedSession:
    """A session whose runs end after `LONGEST_RUN` seconds."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def run(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        """The results called `names`. Raises AxforgeError when the time is over."""
        import onnxruntime as ort

        options = ort.RunOptions()
        timer = threading.Timer(LONGEST_RUN, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            results: list[Array] = self._inner.run(names, feeds, options)
        except Exception as e:  # onnxruntime's exceptions have no common base
            if not options.terminate:
                raise
            fix = "Give the Loop an end, or a number of rounds that takes less time."
            raise AxforgeError(f"a Loop of the model was still running after {LONGEST_RUN:g} s", fix=fix) from e
        finally:
            timer.cancel()
        return results


def bounded(inner: Any, model: bytes) -> Session:
    """The onnxruntime session `inner` of `model`; with a limit of time if there is a Loop in it, which alone can run for ever."""
    found: Session = _BoundedSession(inner) if _LOOP in model else inner
    return found


def session(model: bytes, threads: int = 1) -> Session:
    """An onnxruntime session of one island. Raises AxforgeError where onnxruntime has no implementation of it.

    The model may come from anywhere, so it must not make onnxruntime read files: a model with external data, or in onnxruntime's own
    format, is refused here, and onnxruntime is configured to refuse it too.
    """
    try:
        outside = refers_outside(model)
    except ValueError as e:
        raise AxforgeError(f"a part of the model that is for the CPU is damaged: {e}", fix="Compile the model again.") from e
    if outside:
        raise AxforgeError("a part of the model that is for the CPU refers to another file", fix="Compile the model again.")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are reported once, by the exception
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return bounded(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]), model)
    except Exception as e:  # onnxruntime's exceptions have no common base
        raise AxforgeError(
            f"onnxruntime cannot run a part of the model that is for the CPU: {_first_line(e)}",
            fix="Export the model with an older opset, or with other operators.",
        ) from e


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def to_real(value: Array, tensor: Tensor) -> Array:
    """What an island sees of a tensor: real numbers where it is quantized, else the value itself."""
    return numerics.dequantize(value, tensor.quant.scale, tensor.quant.zero_point) if tensor.quant else value


def from_real(value: Array, tensor: Tensor) -> Array:
    """What the graph sees of an island's result: codes where the tensor is quantized, else the value itself."""
    return numerics.quantize(value, tensor.quant.scale, tensor.quant.zero_point) if tensor.quant else value


class Islands:
    """The islands of one graph, each session made when first used."""

    def __init__(self, graph: Graph, threads: int = 1) -> None:
        self._graph, self._threads = graph, threads
        self._sessions: dict[str, Session] = {}

    def run(self, op: Island, values: Sequence[Array]) -> list[Array]:
        """Outputs of `op` (codes or plain values, in the order of op.outputs) from its inputs."""
        if op.island not in self._sessions:
            self._sessions[op.island] = session(self._graph.islands[op.island], self._threads)
        tensors: Mapping[str, Tensor] = self._graph.tensors
        feeds = {name: np.asarray(to_real(value, tensors[name])) for name, value in zip(op.inputs, values, strict=True)}
        try:
            results = self._sessions[op.island].run(list(op.outputs), feeds)
        except AxforgeError:
            raise
        except Exception as e:  # onnxruntime's exceptions have no common base
            raise AxforgeError(f"onnxruntime failed in '{op.name}', a part of the model that runs on the CPU: {_first_line(e)}") from e
        return [self._result(op, name, np.asarray(r), tensors[name]) for name, r in zip(op.outputs, results, strict=True)]

    def _result(self, op: Island, name: str, value: Array, tensor: Tensor) -> Array:
        """`value` as the graph sees it. Engines place it in memory by the tensor's shape, so another shape is an error."""
        fits = len(value.shape) == len(tensor.shape) and all(d in (-1, n) for d, n in zip(tensor.shape, value.shape, strict=True))
        if not fits or (tensor.quant is None and value.dtype.name != tensor.dtype):
            raise AxforgeError(
                f"the part '{op.name}' that runs on the CPU made '{name}' as {value.dtype}{list(value.shape)}, "
                f"the compiled model expects {tensor.dtype}{list(tensor.shape)}",
                fix="Compile the model again; fix its dynamic shapes if it has any.",
            )
        return np.asarray(from_real(value, tensor))
