"""A project of somebody else in a temporary folder: one tiny model, a few pictures, a dodo.py of three lines; and the real `doit`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STAGES = ("fetch", "check", "calibrate", "quantize", "optimize", "tile", "pack")

DODO = """\
from axforge.tasks import DOIT_CONFIG, models_in, task_accuracy, task_cache, task_compile, task_fit, task_infer, task_report
from axforge.tasks import task_serve, task_usage

models_in("models")
"""

#: Instead of the real stages: each writes a digest of its inputs (up to the first '#') and its configuration, and notes that it ran.
FAKE_STAGES = """\
import hashlib, json, os, time
from axforge.axcompiler import stages
from axforge.tasks import compiling

def fake(stage):
    def run(inputs, config, out, progress, **extra):
        with open("ran.log", "a") as log:
            log.write(f"{stage.name}\\n")
        for i in range(5):
            time.sleep(float(os.environ.get("STAGE_SECONDS", "0")) / 5)
            progress(i + 1, 5, "working")
        if os.environ.get("FAIL_IN") == stage.name:
            raise RuntimeError("a bug")
        seen = hashlib.sha256(repr(config).encode() + os.environ.get(f"BYTES_{stage.name}", "").encode())
        for name in sorted(inputs):
            seen.update(inputs[name].read_bytes())
        for name in stage.outputs:
            (out / name).write_bytes(b"{}" if name == "quantization.json" else seen.digest() * 1000)
        if stage.name == "check":
            work = {"total": 0, "aipu": 0, "elsewhere": []}
            (out / "support.json").write_text(json.dumps({"multiply_adds": work, "digest": seen.hexdigest()}))
    return run

stages.Stage.run = fake
compiling.Publish.predicted = lambda self: ""  # of what is no model
"""


@dataclass
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    def stages(self, model: str = "tiny") -> dict[str, str]:
        """What each stage did, of a run with --explain."""
        found = re.findall(rf"^compile:{model}:(\w+): (ran|restored|up to date)", self.out, re.MULTILINE)
        return dict(found)

    def ran(self, model: str = "tiny") -> list[str]:
        """The stages that ran."""
        return [stage for stage, how in self.stages(model).items() if how == "ran"]


@dataclass
class Project:
    """A folder with a dodo.py, models/, calibration pictures and a tiny ONNX; its cache is its own."""

    root: Path
    environment: Mapping[str, str]

    def env(self, **more: str) -> dict[str, str]:
        """The environment that commands run in."""
        return {**self.environment, **more}

    def command(self, *words: str) -> list[str]:
        """doit as a command line."""
        return [sys.executable, "-m", "doit", *words]

    def doit(self, *words: str, cwd: Path | None = None, **environment: str) -> Answer:
        """Run doit; its own process."""
        return answer(self.command(*words), cwd or self.root, self.env(**environment))

    def compile(self, *words: str, **environment: str) -> Answer:
        """`doit compile:tiny --explain` with further words; must succeed."""
        done = self.doit("compile:tiny", "--explain", *words, **environment)
        assert done.status == 0, done.out + done.err
        return done

    @property
    def onnx(self) -> Path:
        """The source of the model."""
        return self.root / "tiny.onnx"

    @property
    def pictures(self) -> Path:
        """The calibration folder."""
        return self.root / "pictures"

    @property
    def descriptor(self) -> Path:
        """model.json."""
        return self.root / "models" / "tiny" / "model.json"

    @property
    def built(self) -> Path:
        """The folder of the compiled model, for one core."""
        return self.root / "build" / "tiny" / "tiny" / "1"

    def describe(self, **changes: Any) -> None:
        """Change keys of model.json; None removes one."""
        document = json.loads(self.descriptor.read_text()) | changes
        self.descriptor.write_text(json.dumps({k: v for k, v in document.items() if v is not None}, indent=1))

    def fake_stages(self, more: str = "") -> None:
        """Use stages that take no time and import nothing."""
        (self.root / "dodo.py").write_text(FAKE_STAGES + more + DODO)


def answer(command: list[str], cwd: Path, env: Mapping[str, str]) -> Answer:
    """Run a command to its end."""
    done = subprocess.run(command, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=120, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def tiny_model(seed: int = 0, doc: str = "") -> onnx.ModelProto:
    """Conv, ReLU, Conv, ReLU, global average, Gemm: [1, 3, 16, 16] -> [1, 5]."""
    rng = np.random.default_rng(seed)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) * 0.3, name)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], transB=1, name="gemm"),
    ]
    weights = [tensor("w1", 8, 3, 3, 3), tensor("b1", 8), tensor("w2", 16, 8, 3, 3), tensor("b2", 16), tensor("w3", 5, 16), tensor("b3", 5)]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, doc_string=doc)


def picture(seed: int) -> NDArray[np.uint8]:
    """A small picture with structure, [20, 24, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 4, 0), 4, 1)


def write_picture(path: Path, seed: int) -> None:
    """Write `picture(seed)` as PNG."""
    import cv2

    assert cv2.imwrite(str(path), picture(seed))


DESCRIPTOR = {
    "name": "tiny",
    "description": "a tiny classifier",
    "task": "classification",
    "source": {"file": "tiny.onnx"},
    "preprocessing": [{"type": "resize", "width": 16, "height": 16}, {"type": "normalize", "mean": 0.5, "std": 0.25}],
    "postprocessing": [{"type": "topk", "k": 3, "softmax": True}],
    "labels": ["ant", "bee", "cat", "dog", "eel"],
    "calibration": {"path": "pictures", "count": 4},
}


def make_project(root: Path, cache: Path) -> Project:
    """Write a project."""
    (root / "models" / "tiny").mkdir(parents=True)
    (root / "pictures").mkdir()
    (root / "dodo.py").write_text(DODO)
    (root / "models" / "tiny" / "model.json").write_text(json.dumps(DESCRIPTOR, indent=1))
    onnx.save(tiny_model(), root / "tiny.onnx")
    for i in range(4):
        write_picture(root / "pictures" / f"img_{i}.png", i)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AXFORGE_", "DOIT_"))}
    return Project(root, kept | {"AXFORGE_CACHE_DIR": str(cache), "AXFORGE_DATA_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1"})
