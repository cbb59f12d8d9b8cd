"""Real trained networks: packed, read back and simulated on 1 to 4 cores, they equal the reference bit for bit."""

import numpy as np
import pytest

from axcompiler import api, pack, tile
from axcompiler.stages import PackConfig, TileConfig
from axruntime.engines.factory import open_engine

MODELS = {
    "resnet20_cifar10": (1, 3, 32, 32),
    "ds_cnn_kws": (1, 1, 49, 10),
    "vww_96": (1, 3, 96, 96),
    "mobilenet_v2": (1, 3, 224, 224),
    "ultraface_rfb320": (1, 3, 240, 320),
    "yolox_nano": (1, 3, 416, 416),
}


@pytest.mark.parametrize("name", MODELS)
def test_sim_equals_reference(name, shared, tmp_path):
    source = shared / "models" / f"{name}.onnx"
    rng = np.random.default_rng(0)

    def samples(model):
        feed = model.graph.input[0].name
        return [{feed: rng.random(MODELS[name]).astype(np.float32)} for _ in range(2)]

    api.compile(source, samples, workdir=tmp_path)
    expected = None
    for cores in (1, 2, 3, 4):
        tile.run({"graph.axgraph": tmp_path / "graph.axgraph"}, TileConfig(cores=cores), tmp_path)
        pack.run({n: tmp_path / n for n in ("graph.axgraph", "program.axprogram", "schedule.json")}, PackConfig(name), tmp_path)
        sim = open_engine("sim", tmp_path / "model.axmodel")
        feeds = {n: np.random.default_rng(1).random(s).astype(d) for n, (s, d) in sim.inputs.items()}
        expected = expected or open_engine("reference", tmp_path / "model.axmodel").run(feeds, raw=True)
        got = sim.run(feeds, raw=True)
        for output, value in expected.items():
            np.testing.assert_array_equal(got[output], value, err_msg=f"{output} on {cores} cores")
