"""checked.onnx, ranges.json, histograms.npz -> quantized.onnx: a standard QDQ model that Netron shows and onnxruntime runs."""

from axforge.axcompiler.quantize.stage import quantize, run

__all__ = ["quantize", "run"]
