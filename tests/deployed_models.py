"""Compiled folders as `doit compile` publishes them, of tiny networks: a classifier and a detector."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnx_models import model

from axforge.axcompiler import api
from axforge.axruntime.deployed.seal import published_json

PIPELINE: dict[str, Any] = {
    "preprocessing": [{"type": "resize", "width": 16, "height": 16}, {"type": "normalize", "mean": 0.5, "std": 0.25}],
}
CLASSIFIER = {
    "name": "tiny",
    "task": "classification",
    **PIPELINE,
    "postprocessing": [{"type": "topk", "k": 2, "softmax": True}],
    "labels": "animals.txt",
}
DETECTOR = {
    "name": "finder",
    "task": "detection",
    **PIPELINE,
    "postprocessing": [{"type": "decode_yolov8", "classes": 2, "confidence_threshold": 0.0}, {"type": "nms"}],
    "labels": ["left", "right"],
}
ANIMALS = ("ant", "bee", "cat", "dog", "éel")


def classifier() -> ModelProto:
    """[1, 3, 16, 16] -> [1, 5], all of it in int8."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("GlobalAveragePool", ["r1"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w2"], ["y"], "fc"),
    ]
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 1, (8, 5)).astype(np.float32),
    }
    return model(nodes, {"x": [1, 3, 16, 16]}, ["y"], weights)


def detector() -> ModelProto:
    """[1, 3, 16, 16] -> [1, 6, 16]: four sides and two scores, with a Sigmoid that runs in float32."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv", strides=[4, 4]),
        helper.make_node("Sigmoid", ["c1"], ["s1"], "sigmoid"),
        helper.make_node("Mul", ["s1", "sizes"], ["m1"], "scale"),
        helper.make_node("Reshape", ["m1", "shape"], ["y"], "reshape"),
    ]
    weights = {
        "w1": rng.normal(0, 0.3, (6, 3, 4, 4)).astype(np.float32),
        "sizes": np.array([16, 16, 8, 8, 1, 1], np.float32).reshape(1, 6, 1, 1),
        "shape": np.array([1, 6, 16], np.int64),
    }
    return model(nodes, {"x": [1, 3, 16, 16]}, ["y"], weights)


def publish(proto: ModelProto, document: dict[str, Any], folder: Path, labels: tuple[str, ...] = ANIMALS) -> Path:
    """Compile `proto` and lay out `folder` as `doit compile` does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(0, 1, (1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]
    compiled = api.compile(proto, samples)
    for name in ("model.axmodel", "manifest.json"):
        shutil.copy(compiled.folder / name, folder / name)
    digest = hashlib.sha256((folder / "model.axmodel").read_bytes()).hexdigest()
    (folder / "model.json").write_bytes(published_json(json.dumps(document).encode(), labels, {"model.axmodel": digest}))
    return folder


def photo() -> NDArray[np.uint8]:
    """A picture with structure, uint8 RGB [60, 80, 3]."""
    coarse = np.random.default_rng(5).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return coarse.repeat(10, 0).repeat(10, 1)
