"""Real networks, compiled as their model.json says: the engines agree bit for bit, and the int8 answers are right."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axforge import ax_models
from axforge.ax_models.builders import efficientnet_lite0, shape
from axforge.axcompiler import api, pack, tile
from axforge.axcompiler.stages import PackConfig, TileConfig
from axforge.axruntime.engines.factory import open_engine
from axforge.axruntime.evaluate.datasets import open_dataset
from axforge.axruntime.evaluate.evaluate import evaluate, for_measuring
from axforge.axruntime.media.images import read_image
from axforge.axruntime.pipeline.calibration import calibration_samples, feeds, onnx_inputs
from axforge.axruntime.pipeline.descriptor import Descriptor, load_descriptor, stage_options
from axforge.axruntime.pipeline.pipeline import Pipeline

SAMPLES = 24
BUS = (10.0, 230.0, 805.0, 740.0)  # of bus.jpg, measured by hand, in pixels
ZOO = Path(ax_models.__file__).parent


@dataclass(frozen=True)
class Built:
    descriptor: Descriptor
    folder: Path
    data_root: Path

    def engine(self, pipe: str) -> Any:
        return open_engine(pipe, self.folder / "model.axmodel")

    def run(self, picture: str) -> Any:
        return Pipeline(self.descriptor, self.engine("aipu-host")).run(read_image(self.data_root / "images" / picture))

    def measure(self, limit: int | None = None) -> dict[str, float]:
        pipeline = Pipeline(for_measuring(self.descriptor), self.engine("aipu-host"))
        return evaluate(pipeline, open_dataset(self.descriptor, self.data_root), limit=limit).metrics


def source(name: str, data_root: Path, folder: Path) -> Path:
    if name == "efficientnet_lite0-imagenet":
        efficientnet_lite0.build(None, folder / "source.onnx")
        return folder / "source.onnx"
    if name == "yolov5s_shape":
        (folder / "source.onnx").write_bytes(shape.fill(data_root / "models/shape/yolov5s.shape.onnx").SerializeToString())
        return folder / "source.onnx"
    return data_root / "models" / f"{name}.onnx"


@pytest.fixture(scope="module")
def built(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Compiles a model of the zoo once for all tests of this file."""
    done: dict[str, Built] = {}

    def build(name: str) -> Built:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            descriptor = load_descriptor(ZOO / name / "model.json")
            items = calibration_samples(descriptor, shared, SAMPLES)
            options = api.Options(check=api.CheckConfig(**stage_options(descriptor, "check")))

            def samples(checked: Any) -> Any:
                return feeds(descriptor, items, onnx_inputs(folder / "checked.onnx"))

            api.compile(source(name, shared, folder), samples, options, workdir=folder)
            done[name] = Built(descriptor, folder, shared)
        return done[name]

    return build


def random_feeds(engine: Any, name: str) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    largest = 255 if name == "yolox_nano" else 1
    return {n: rng.random(s).astype(d) * np.float32(largest) for n, (s, d) in engine.inputs.items()}


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0-imagenet",
        "yolox_nano",
        "fastestdet",
        "ultraface_rfb320",
        "mobilenet_v2",
        "deeplabv3_257",
        "espcn_x3",
        "ds_cnn_kws",
        "vww_96",
        "resnet20_cifar10",
        "yolov5s_shape",
    ],
)
def test_simulator_on_1_to_4_cores_and_host_engine_equal_the_reference(name, built, tmp_path):
    model = built(name)
    reference = model.engine("reference")
    given = random_feeds(reference, name)
    expected = reference.run(given, raw=True)

    def check_equal(engine: Any, what: str) -> None:
        got = engine.run(given, raw=True)
        for output, value in expected.items():
            np.testing.assert_array_equal(got[output], value, err_msg=f"{output} by {what}")

    check_equal(model.engine("aipu-host"), "aipu-host")
    graph = model.folder / "graph.axgraph"
    for cores in (1, 2, 3, 4):
        tile.run({"graph.axgraph": graph}, TileConfig(cores=cores), tmp_path)
        inputs = {"graph.axgraph": graph, "program.axprogram": tmp_path / "program.axprogram", "schedule.json": tmp_path / "schedule.json"}
        pack.run(inputs, PackConfig(name), tmp_path)
        check_equal(open_engine("sim", tmp_path / "model.axmodel"), f"sim on {cores} cores")


def overlap(a: NDArray[Any], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_detectors_find_the_bus_and_its_passengers(built):
    for name in ("yolox_nano", "fastestdet"):
        found = built(name).run("bus.jpg")
        assert "bus" in found.labels, name
        assert found.labels.count("person") >= 3, name
        buses = [box for box, label in zip(found.boxes, found.labels, strict=True) if label == "bus"]
        assert max(overlap(box, BUS) for box in buses) > 0.6, name


def test_faces_of_a_crowd_are_found(built):
    assert len(built("ultraface_rfb320").run("crowd.jpg")) >= 10


def test_the_bird_is_cut_out(built):
    assert built("deeplabv3_257").measure()["mIoU"] > 90


@pytest.mark.parametrize(
    "name,least,limit",
    [
        ("efficientnet_lite0-imagenet", 80.5, 650),
        ("mobilenet_v2", 77.5, 650),
        ("ds_cnn_kws", 89.0, None),
        ("resnet20_cifar10", 75.0, None),
    ],
)
def test_classes_of_labelled_samples(name, least, limit, built):
    """Within 1.5 points of the fp32 top-1 (82.0, 79.1, 90.1, 76.2), although calibrated on few samples."""
    assert built(name).measure(limit)["top-1"] > least
