"""Quantizes a float model with onnxruntime or NNCF; run by accuracy.py in a process, and perhaps an environment, of its own.

    python accuracy_peers.py METHOD MODEL.onnx SAMPLES.npz OUT.onnx

METHOD: minmax, percentile or entropy of onnxruntime's `quantize_static`, nncf or nncf-mixed. SAMPLES: an array [N, ...] for each input.
Status 3: the method is not installed here.
"""

import sys
from pathlib import Path

import numpy as np


def onnxruntime(method: str, model: str, samples: list[dict[str, np.ndarray]], out: str) -> None:
    """QDQ with weights for each channel, activations int8 as the calibration `method` says."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rest, None)

    prepared = str(Path(out).with_suffix(".prepared.onnx"))
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    methods = {name.lower(): kind for name, kind in quantization.CalibrationMethod.__members__.items()}
    quantization.quantize_static(prepared, out, Reader(), per_channel=True, calibrate_method=methods[method])


def nncf(preset: str, model: str, samples: list[dict[str, np.ndarray]], out: str) -> None:
    """NNCF's post-training quantization with a preset."""
    import nncf as library
    import onnx

    presets = {"nncf": library.QuantizationPreset.PERFORMANCE, "nncf-mixed": library.QuantizationPreset.MIXED}
    data = library.Dataset(samples)
    onnx.save(library.quantize(onnx.load(model), data, preset=presets[preset], subset_size=len(samples)), out)


def main(method: str, model: str, samples: str, out: str) -> int:
    """Write the quantized model."""
    with np.load(samples) as stored:
        arrays = {name: stored[name] for name in stored.files}
    feeds = [{name: value[i] for name, value in arrays.items()} for i in range(len(next(iter(arrays.values()))))]
    try:
        (nncf if method.startswith("nncf") else onnxruntime)(method, model, feeds, out)
    except ModuleNotFoundError as error:
        print(error)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
