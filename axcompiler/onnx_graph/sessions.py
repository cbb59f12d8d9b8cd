"""onnxruntime on the CPU, with errors that a user can read."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.errors import AxforgeError, CompileError
from axforge.axcompiler.islands import bounded


class FloatSession:
    """A float model that is ready to run. where: the stage that runs it, for its errors."""

    def __init__(self, model: onnx.ModelProto, where: str, *, simulated: bool = False) -> None:
        """simulated: the model has QuantizeLinear and DequantizeLinear between float operators, which must stay what they are.

        Raises CompileError if onnxruntime refuses the model.
        """
        import onnxruntime as ort  # here, because importing it takes a quarter of a second

        self._where = where
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        # several sessions alternate: threads that spin while they wait would slow down the other sessions
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        left_out = []
        if simulated:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            left_out = ["WeightBiasQuantization"]  # it would round the float weights of a layer that reads a DequantizeLinear
        data = model.SerializeToString()
        try:
            inner = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out)
        except Exception as e:  # onnxruntime raises many types that share no base but this
            raise CompileError(f"onnxruntime cannot run the model: {' '.join(str(e).split())}", where=where) from e
        self._session = bounded(inner, data)

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[np.generic]], sample: int) -> dict[str, NDArray[np.float32]]:
        """The outputs `names` by name. Raises CompileError, naming the number of the sample."""
        try:
            return dict(zip(names, self._session.run(list(names), dict(feeds)), strict=True))
        except AxforgeError:
            raise
        except Exception as e:  # as above
            raise CompileError(f"onnxruntime failed on sample {sample}: {' '.join(str(e).split())}", where=self._where) from e
