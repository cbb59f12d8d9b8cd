"""An ONNX model in memory: read-only views, an editable copy, names, shapes, tensors, and how it spells quantization."""
