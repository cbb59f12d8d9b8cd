"""The zoo: every descriptor is sound, builders give the same bytes each time, and a checkpoint can run nothing."""

import collections
import hashlib
import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axforge import ax_models
from axforge.ax_models.builders import efficientnet_lite0, rapidocr, shape
from axforge.ax_models.builders.torch_checkpoint import read_tensors
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axruntime.pipeline.descriptor import load_descriptor
from axforge.axruntime.pipeline.models import model_names
from axforge.axruntime.pipeline.step import BoxDecoder

ZOO = Path(ax_models.__file__).parent
NAMES = model_names([ZOO])


def test_all_models_of_the_order_are_described() -> None:
    assert {
        "efficientnet_lite0-imagenet", "yolov5s-v7-coco", "yolov8n-coco", "yolox_nano", "fastestdet", "ultraface_rfb320", "mobilenet_v2",
        "deeplabv3_257", "espcn_x3", "ds_cnn_kws", "vww_96", "resnet20_cifar10", "yolov5s_shape",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_descriptor_is_sound(name: str) -> None:
    descriptor = load_descriptor(ZOO / name / "model.json")
    assert descriptor.name == name
    assert descriptor.model == f"{name}/1/model.axmodel"
    assert descriptor.source is not None
    assert descriptor.license
    assert descriptor.calibration is not None
    for step in descriptor.postprocessing:
        if isinstance(step, BoxDecoder) and hasattr(step, "classes"):
            assert len(descriptor.label_names) == step.classes


@pytest.mark.parametrize("name", ["yolov5s-v7-coco", "yolov8n-coco"])
def test_published_models_have_the_published_checksum(name: str, shared: Path) -> None:
    source = load_descriptor(ZOO / name / "model.json").source
    assert source is not None
    table = (shared / "figures" / "zoo_sources.csv").read_text()
    assert f"{source.url},{source.md5}" in table


def test_the_default_model_is_built_alike_each_time(tmp_path: Path) -> None:
    digests = set()
    for name in ("a.onnx", "b.onnx"):
        efficientnet_lite0.build(None, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Conv") == 1 + 16 * 3 - 1 + 1
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("build", [rapidocr.detection, rapidocr.recognition])
def test_the_models_for_text_are_built_from_their_package(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rapidocr, "PACKAGE", "no_such_package_anywhere")
        with pytest.raises(AxforgeError, match=r"axforge\[zoo\]"):
            build(None, tmp_path / "text.onnx")
    pytest.importorskip("rapidocr_onnxruntime", reason="it has the weights")
    build(None, tmp_path / "text.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "text.onnx"), full_check=True)


def test_shape_graphs_are_filled_as_their_own_script_fills_them(shared: Path, tmp_path: Path) -> None:
    shape.yolov5s(shared, tmp_path / "y.onnx")
    scope: dict[str, Any] = {"__name__": "fill", "__file__": str(shared / "models" / "shape" / "fill_weights.py")}
    exec((shared / "models" / "shape" / "fill_weights.py").read_text(), scope)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in scope["fill"]("yolov5s").graph.initializer}
    built = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "y.onnx").graph.initializer}
    assert built.keys() == expected.keys()
    assert all(np.array_equal(built[name], expected[name]) for name in expected)


def test_a_shape_graph_without_data_root_or_file_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(AxforgeError, match="AXFORGE_DATA_ROOT"):
        shape.yolov5s(None, tmp_path / "y.onnx")
    with pytest.raises(AxforgeError, match="cannot be read"):
        shape.yolov5s(tmp_path, tmp_path / "y.onnx")


# --- checkpoints ------------------------------------------------------------------------------------------------------------------


class _Global:
    """Pickles as the bare name of something, as PyTorch's own pickles do."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Storage:
    def __init__(self, key: str, values: np.ndarray[Any, Any], count: int | None = None) -> None:
        self.key, self.values, self.count = key, values, len(values) if count is None else count


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.args = (storage, offset, shape, strides)


class _Pickler(pickle._Pickler):  # type: ignore[misc]  # the Python one: it lets `save` be extended
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", _Global("torch", "FloatStorage"), obj.key, "cpu", obj.count, None) if isinstance(obj, _Storage) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Tensor):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save((*obj.args, False, collections.OrderedDict()))
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def dump(obj: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(obj)
    return buffer.getvalue()


def checkpoint(objects: Any, storages: list[_Storage], *, raw: bytes | None = None) -> bytes:
    head = dump(0x1950A86A20F9469CFC6C) + dump(1001) + dump({"little_endian": True, "protocol_version": 1001})
    tail = b"".join(struct.pack("<q", s.count) + s.values.astype("<f4").tobytes() for s in storages)
    return head + (raw if raw is not None else dump(objects)) + dump([s.key for s in storages]) + tail


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    return path


def sound() -> tuple[dict[str, Any], list[_Storage]]:
    storage = _Storage("7", np.arange(12, dtype=np.float32))
    return {"a": _Tensor(storage, 0, (3, 4), (4, 1)), "b": _Tensor(storage, 4, (2, 2), (1, 4))}, [storage]


def test_tensors_are_views_of_their_storage(tmp_path: Path) -> None:
    tensors = read_tensors(write(tmp_path, checkpoint(*sound())))
    flat = np.arange(12, dtype=np.float32)
    assert np.array_equal(tensors["a"], flat.reshape(3, 4))
    assert np.array_equal(tensors["b"], [[4, 8], [5, 9]])


class _Exploit:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(lambda mark: pickle.dumps({"a": _Exploit(os.system, f"touch {mark}")}, 2), id="os.system"),
        pytest.param(lambda mark: pickle.dumps({"a": _Exploit(eval, f"open({str(mark)!r}, 'w')")}, 2), id="eval"),
        pytest.param(lambda mark: b"\x80\x02cnumpy.f2py.diagnose\nrun_command\n.", id="a function of an installed package"),
        pytest.param(
            lambda mark: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__call__K\x01sb.",
            id="attributes of an allowed name",
        ),
        pytest.param(lambda mark: b"\x80\x02ctorch\nload\n.", id="another name of torch"),
        pytest.param(lambda mark: b"\x80\x04\x8c\x0bcollections\x8c\x1aOrderedDict.__subclasses__\x93.", id="a dotted name"),
    ],
)
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, payload: Callable[[Path], bytes]) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(FormatError, match="refused"):
        read_tensors(write(tmp_path, checkpoint(None, [], raw=payload(mark))))
    assert not mark.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        lambda s: _Tensor(s, 0, (13,), (1,)),
        lambda s: _Tensor(s, 12, (1,), (1,)),
        lambda s: _Tensor(s, 0, (2, 2), (1, 11)),
        lambda s: _Tensor(s, -1, (1,), (1,)),
        lambda s: _Tensor(s, 0, (4,), (-1,)),
        lambda s: _Tensor(s, 0, (1 << 40,), (0,)),
        lambda s: _Tensor(s, 0, (2, 2), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path, tensor: Callable[[_Storage], _Tensor]) -> None:
    storage = _Storage("7", np.arange(12, dtype=np.float32))
    with pytest.raises(FormatError):
        read_tensors(write(tmp_path, checkpoint({"a": tensor(storage)}, [storage])))


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    storage = _Storage("7", np.arange(12, dtype=np.float32), count=1 << 40)
    with pytest.raises(FormatError, match="longer than the file"):
        read_tensors(write(tmp_path, checkpoint({"a": _Tensor(storage, 0, (1,), (1,))}, [storage])))


@given(st.data())
def test_a_damaged_checkpoint_gives_tensors_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = bytearray(checkpoint(*sound()))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(good[:cut] if data.draw(st.booleans()) else good)
    try:
        tensors = read_tensors(path)
    except FormatError:
        return
    assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())


def test_the_json_of_the_zoo_is_plain() -> None:
    for name in NAMES:
        text = (ZOO / name / "model.json").read_text()
        assert json.loads(text)["$schema"] == "../model.schema.json"
        assert "NaN" not in text
