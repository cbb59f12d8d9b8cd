"""checked.onnx and samples -> ranges.json, histograms.npz, samples.npz: one pass over the samples, one sample in memory at a time."""

from axforge.axcompiler.calibrate.collect import collect, run

__all__ = ["collect", "run"]
