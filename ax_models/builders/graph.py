"""Writing a built model."""

from pathlib import Path

import onnx

from axforge.axcompiler.container import write_atomic


def save(model: onnx.ModelProto, out: Path) -> None:
    """Check `model` and write it to `out`, atomically; the same model gives the same bytes."""
    onnx.checker.check_model(model, full_check=True)
    write_atomic(out, model.SerializeToString(deterministic=True))
