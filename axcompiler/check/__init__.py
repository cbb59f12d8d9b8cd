"""model.onnx -> checked.onnx, support.json: shapes fixed, constants and batch norms folded, every node given its place."""

from axcompiler.check.clean import clean
from axcompiler.check.load import load_model
from axcompiler.check.stage import run

__all__ = ["clean", "load_model", "run"]
