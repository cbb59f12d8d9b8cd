"""model.onnx -> checked.onnx, support.json: shapes fixed, constants and batch norms folded, every node given its place."""

from axforge.axcompiler.check.clean import clean
from axforge.axcompiler.check.load import load_model
from axforge.axcompiler.check.passes import PASSES
from axforge.axcompiler.check.stage import run

__all__ = ["PASSES", "clean", "load_model", "run"]
