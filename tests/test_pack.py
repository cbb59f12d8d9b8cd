"""pack: the padding rules hold on their golden shapes, the manifest tells the border of the AIPU, bytes are the same again."""

import json

import numpy as np
import pytest
from graphs import random_graph

from axforge.axcompiler import graphfile, ir, pack, tile
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.manifest import border, head_and_tail
from axforge.axcompiler.stages import PackConfig, TileConfig
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.sim.engine import SimEngine

UNIT = Quant(float(np.float32(1 / 255)), -128)


def stem(channels: int, size: int, out: int, kernel: int, stride: int, pad: int, heads: int = 1) -> Graph:
    """A first convolution, and `heads` 1x1 convolutions of 255 channels on it."""
    small = (size + 2 * pad - kernel) // stride + 1
    q = Quant(0.0625, 3)

    def conv(name, x, y, w, **fields):
        names = {"weight": f"w{w}", "bias": f"b{w}", "multiplier": f"m{w}"}
        return ir.Conv(name=name, inputs=(x,), outputs=(y,), epilogue=Epilogue(3), **names, **fields)

    shapes = {"0": (out, channels, kernel, kernel), "1": (255, out, 1, 1)}
    constants = {f"w{k}": np.ones(s, np.int8) for k, s in shapes.items()}
    constants |= {f"b{k}": np.zeros(s[0], np.int32) for k, s in shapes.items()}
    constants |= {f"m{k}": np.full(s[0], 1e-3, np.float32) for k, s in shapes.items()}
    ends = [f"y{i}" for i in range(heads)]
    return Graph(
        name="stem",
        tensors={
            "images": Tensor((1, channels, size, size), quant=UNIT),
            "h": Tensor((1, out, small, small), quant=q),
            **{e: Tensor((1, 255, small, small), quant=q) for e in ends},
        },
        ops=(
            conv("stem", "images", "h", 0, strides=(stride, stride), pads=(pad,) * 4),
            *(conv(f"head{e}", "h", e, 1) for e in ends),
        ),
        inputs=("images",),
        outputs=tuple(ends),
        constants=constants,
    )


def packed(graph, folder, cores=1, name="net"):
    graphfile.save(graph, folder / "graph.axgraph")
    tile.run({"graph.axgraph": folder / "graph.axgraph"}, TileConfig(cores=cores), folder)
    pack.run({n: folder / n for n in ("graph.axgraph", "program.axprogram", "schedule.json")}, PackConfig(name), folder)
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    "graph,shape,pads",
    [
        (stem(3, 640, 32, 6, 2, 2), [1, 644, 656, 4], [0, 0, 2, 2, 2, 14, 0, 1]),  # YOLOv5 v6 and later
        (stem(3, 640, 16, 3, 2, 1), [1, 642, 656, 4], [0, 0, 1, 1, 1, 15, 0, 1]),  # YOLOv8
        (stem(12, 320, 32, 3, 1, 1), [1, 320, 320, 64], [0, 0, 0, 0, 0, 0, 0, 52]),  # YOLOv5 with the focus on the host
        (stem(1, 28, 8, 3, 1, 0), [1, 28, 32, 4], [0, 0, 0, 0, 0, 4, 0, 3]),
    ],
)
def test_golden_input_shapes(graph, shape, pads, tmp_path):
    manifest = packed(graph, tmp_path)
    assert manifest["input_shapes"] == [shape]
    assert manifest["n_padded_ch_inputs"] == [pads]
    assert manifest["input_tensor_layout"] == "NHWC"


def test_images_in_0_to_1_outputs_and_original_shapes(tmp_path):
    manifest = packed(stem(3, 64, 32, 6, 2, 2, heads=2), tmp_path)
    assert manifest["quantize_params"] == [[pytest.approx(0.00392, abs=1e-5), -128]]
    assert manifest["dequantize_params"] == [[pytest.approx(0.0625), 3]] * 2
    assert all(isinstance(zero, int) for _, zero in manifest["dequantize_params"])
    assert manifest["output_shapes"] == [[1, 32, 32, 256]] * 2
    assert manifest["n_padded_ch_outputs"] == [[0, 0, 0, 0, 0, 0, 0, 1]] * 2
    assert manifest["input_shapes_original"] == [[1, 3, 64, 64]]
    assert manifest["output_shapes_original"] == [[1, 255, 32, 32]] * 2
    assert (manifest["input_dtypes"], manifest["output_dtypes"]) == (["int8"], ["int8", "int8"])
    assert manifest["model_lib_file"] == "model.json"
    assert (manifest["preprocess_graph"], manifest["postprocess_graph"]) == ("", "")
    assert set(manifest["tensor_quantization"]) == {"images", "h", "y0", "y1"}


def test_the_batch_is_the_number_of_cores(tmp_path):
    manifest = packed(stem(3, 64, 32, 6, 2, 2), tmp_path, cores=4)
    assert manifest["input_shapes"] == [[4, 68, 80, 4]]
    assert manifest["output_shapes"] == [[4, 32, 32, 256]]
    assert manifest["aipu_cores"] == 4


def test_the_padded_buffer_is_what_the_program_reads(tmp_path):
    """numpy.pad by the manifest's pads, written as it is to the input's buffer, gives the result of the engine's own feed."""
    graph = stem(3, 33, 8, 3, 2, 1)
    manifest = packed(graph, tmp_path)
    model = AxModel.open(tmp_path / "model.axmodel")
    codes = np.random.default_rng(0).integers(-128, 128, (1, 3, 33, 33)).astype(np.int8)
    engine = SimEngine(model.graph, model.program)
    expected = engine.run({"images": codes}, raw=True)["y0"]
    pads = np.reshape(manifest["n_padded_ch_inputs"][0], (4, 2))
    buffer = np.pad(codes.transpose(0, 2, 3, 1), pads, constant_values=manifest["input_fill"][0])
    assert list(buffer.shape) == manifest["input_shapes"][0]
    region = engine.machine.region(int(model.program.operands[model.program.header.places["images"]]["buffer"]))
    engine.machine.poison(1)
    region[: buffer.size] = buffer.reshape(-1).view(np.uint8)
    engine._run_streams()
    out = engine.machine.region(int(model.program.operands[model.program.header.places["y0"]]["buffer"]))
    shape = manifest["output_shapes"][0]
    nhwc = out[: int(np.prod(shape))].view(np.int8).reshape(shape)
    np.testing.assert_array_equal(nhwc[..., :255].transpose(0, 3, 1, 2), expected)


def test_head_and_tail_islands_are_told_apart(tmp_path):
    graph = random_graph(2, ("island", "conv", "island", "conv", "island"))
    head, tail = head_and_tail(graph)
    takes, gives = border(graph)
    names = [op.island for op in graph.ops if isinstance(op, ir.Island)]
    assert names
    assert not {op.name for op in head} & {op.name for op in tail}
    for name in takes:
        assert name in graph.inputs or any(name in op.outputs for op in head)
    for name in gives:
        assert name in graph.outputs or any(name in op.inputs for op in tail)
    manifest = packed(graph, tmp_path)
    assert [i["name"] for i in manifest["islands"]] == names
    assert {i["where"] for i in manifest["islands"]} <= {"head", "middle", "tail"}
    for op in head:
        assert f"model.axmodel#islands/{op.island}" in manifest["preprocess_graph"]


def test_same_inputs_same_bytes(tmp_path):
    graph = random_graph(9, ("conv", "island", "add"))
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        packed(graph, tmp_path / name, cores=2)
        files.append([(tmp_path / name / f).read_bytes() for f in ("model.axmodel", "manifest.json", "schedule.json")])
    assert files[0] == files[1]


def test_a_program_of_another_graph_is_refused(tmp_path):
    packed(random_graph(1, ("conv",)), tmp_path)
    graphfile.save(random_graph(2, ("add", "mul")), tmp_path / "graph.axgraph")
    with pytest.raises(CompileError, match="another graph"):
        pack.run({n: tmp_path / n for n in ("graph.axgraph", "program.axprogram", "schedule.json")}, PackConfig(), tmp_path)
