"""Whatever an ONNX file holds, it is compiled or refused with a sentence: no other exception, no crash, no hang."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from host_support import assert_equal_to_reference
from hostile_models import HOSTILE, looped

from axforge.axcompiler import api, islands
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import QuantizeConfig

QUICK = api.Options(quantize=QuantizeConfig(scheme="minmax"))


def samples(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    if any(np.prod(shape, dtype=float) > 1e7 for shape in shapes.values()):
        raise AxforgeError("the test has no samples of this size")
    return [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}]


def verdict(path: Path, folder: Path, runs: bool) -> str:
    """'compiled', or the sentence with which the model is refused. runs: the compiled model runs on the host engine too."""
    try:
        compiled = api.compile(path, samples, QUICK, workdir=folder)
        if runs:
            assert_equal_to_reference(compiled.graph, samples(onnx.load(folder / "checked.onnx"))[0], "generic")
    except AxforgeError as e:
        return f"refused: {e.what}"
    return "compiled"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_compiled_or_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(HOSTILE[name]().SerializeToString())
    said = verdict(path, tmp_path, runs=list(HOSTILE).index(name) % 6 == 0)
    assert said == "compiled" or len(said) > len("refused: a word")


def test_a_loop_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(islands, "LONGEST_RUN", 0.3)
    path = tmp_path / "model.onnx"
    path.write_bytes(looped(2**62).SerializeToString())
    assert "still running after 0.3 s" in verdict(path, tmp_path, runs=True)
    (tmp_path / "short").mkdir()
    path.write_bytes(looped(3).SerializeToString())
    assert verdict(path, tmp_path / "short", runs=True) == "compiled"
