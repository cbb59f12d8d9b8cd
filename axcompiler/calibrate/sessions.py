"""onnxruntime on the CPU, with errors that a user can read."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from axforge.axcompiler.errors import CompileError


class ProbeSession:
    """A model that is ready to run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Raises CompileError if onnxruntime refuses the model."""
        import onnxruntime as ort  # here, because importing it takes a quarter of a second

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        # batches of probes alternate between sessions: threads that spin while they wait would slow down the other sessions
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime raises many types that share no base but this
            raise CompileError(f"onnxruntime cannot run the model: {' '.join(str(e).split())}", where="calibrate") from e

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[np.generic]], sample: int) -> dict[str, NDArray[np.float32]]:
        """The outputs `names` by name. Raises CompileError, naming the number of the sample."""
        try:
            return dict(zip(names, self._session.run(list(names), dict(feeds)), strict=True))
        except Exception as e:  # as above
            raise CompileError(f"onnxruntime failed on sample {sample}: {' '.join(str(e).split())}", where="calibrate") from e
