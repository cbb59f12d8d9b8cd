"""Real networks: the codes of the `.axmodel` equal the reference on every code path, and a profile accounts for every operator."""

import numpy as np
import onnx
import pytest
from host_support import assert_equal_to_reference, paths

from axforge.axcompiler import api
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.host import HostEngine, profile

MODELS = ("vww_96", "resnet20_cifar10", "ultraface_rfb320")


def random_samples(model, count=2):
    rng = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [{n: rng.random(s, dtype=np.float32) for n, s in shapes.items()} for _ in range(count)]


@pytest.fixture(scope="module")
def compiled(shared, tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = (api.compile(shared / "models" / f"{name}.onnx", random_samples, workdir=folder), folder)
        return made[name]

    return get


@paths
@pytest.mark.parametrize("name", MODELS)
def test_real_networks_equal_the_reference(compiled, name, cpu):
    _, folder = compiled(name)
    graph = AxModel.open(folder / "model.axmodel", program=False).graph
    feeds = random_samples(onnx.load(folder / "checked.onnx"), 1)[0]
    assert_equal_to_reference(graph, feeds, cpu, threads=2)


def test_the_profile_accounts_for_all_products(compiled, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AXFORGE_NATIVE_DIR", str(tmp_path))
    _, folder = compiled("resnet20_cifar10")
    engine = HostEngine(AxModel.open(folder / "model.axmodel", program=False), 1)
    lines = profile.profile(engine, rounds=2)
    assert len(lines) == len(engine.plan.steps)
    # ResNet-20 for 32 x 32 pixels: 40.55 million multiply-accumulates in convolutions, 640 in the classifier
    assert sum(line.step.macs for line in lines) == pytest.approx(40.55e6, rel=0.02)
    assert profile.main([str(folder / "model.axmodel"), "--rounds", "1"]) == 0
    assert "of peak" in capsys.readouterr().out


def test_the_profile_names_a_file_that_is_not_there(capsys):
    assert profile.main(["nowhere.axmodel"]) == 1
    assert "nowhere.axmodel" in capsys.readouterr().err
