"""manifest.json as a type: it reads what pack writes, and says where it contradicts the `.axmodel`."""

import json
from pathlib import Path
from typing import Any

import pytest
from onnx_models import image_samples, small_net

from axforge.axcompiler import api, manifest
from axforge.axcompiler.errors import FormatError
from axforge.axcompiler.manifest import Contradiction
from axforge.axruntime.axmodel import AxModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compiled")
    api.compile(small_net(), image_samples(2), workdir=place)
    return place


def test_it_is_read_as_it_was_written(folder: Path) -> None:
    data = (folder / "manifest.json").read_bytes()
    read = manifest.parse(data, "manifest.json")
    assert manifest.to_bytes(read) == data
    (taken,) = read.inputs
    graph = AxModel.open(folder / "model.axmodel").graph
    quant = graph.tensors[taken.name].quant
    assert quant is not None
    assert (taken.scale, taken.zero_point, taken.shape) == (quant.scale, quant.zero_point, (1, 3, 16, 16))
    assert taken.padded_shape[3] == 4
    assert len(taken.pads) == 8
    assert {given.dtype for given in read.outputs} == {"int8"}


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("quantize_params", [[0.5, 3]], "quantize_params[0][0]"),
        ("input_shapes", [[2, 16, 16, 4]], "input_shapes[0]"),
        ("output_names", ["other"], "output_names[0]"),
        ("aipu_cores", 3, "aipu_cores"),
        ("input_dtypes", ["uint8"], "input_dtypes[0]"),
        ("tensor_quantization", {}, "tensor_quantization."),
        ("model_file", "other.axmodel", "model_file"),
        ("islands", [{"name": "a", "operator": "b", "where": "head", "inputs": [], "outputs": [], "reason": ""}] * 9, "islands"),
    ],
)
def test_a_contradiction_is_named_with_both_values(folder: Path, key: str, value: Any, place: str) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    real = manifest.parse((folder / "manifest.json").read_bytes(), "")
    written = manifest.parse(json.dumps(document | {key: value}).encode(), "")
    first, *_ = manifest.contradictions(written, real)
    assert first.key.startswith(place)
    assert first.written != first.real
    assert list(manifest.contradictions(real, real)) == []


def test_a_missing_tensor_is_a_contradiction_too(folder: Path) -> None:
    real = manifest.parse((folder / "manifest.json").read_bytes(), "")
    document = json.loads((folder / "manifest.json").read_bytes())
    name, params = document["tensor_quantization"].popitem()
    found = list(manifest.contradictions(manifest.parse(json.dumps(document).encode(), ""), real))
    assert found == [Contradiction(f"tensor_quantization.{name}", None, tuple(params))]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"name": "\xff"}', b"[" * 5000])
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"here: the manifest cannot be understood"):
        manifest.parse(data, "here")
