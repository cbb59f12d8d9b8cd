"""An `.axmodel` is either read whole or refused with one sentence: no damage gets through, whether or not the digests were mended."""

import json
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
import yaml
from graphs import feeds_for, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import container, graphfile, pack, tile
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axcompiler.program import AXMODEL_MAGIC, MAGIC, VERSION
from axforge.axcompiler.reference import Reference
from axforge.axcompiler.stages import PackConfig, TileConfig
from axforge.axruntime.__main__ import main
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.factory import open_engine
from axforge.axruntime.engines.sim.cycles import count_cycles
from axforge.axruntime.engines.sim.engine import SimEngine

KINDS = ("conv", "add", "max_pool", "take", "island", "softmax")


def build(graph, folder, cores=2, name="test", aipu="metis"):
    folder.mkdir(exist_ok=True)
    graphfile.save(graph, folder / "graph.axgraph")
    tile.run({"graph.axgraph": folder / "graph.axgraph"}, TileConfig(target=aipu, cores=cores), folder)
    pack.run({n: folder / n for n in ("graph.axgraph", "program.axprogram", "schedule.json")}, PackConfig(name), folder)
    return folder / "model.axmodel"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    graph = random_graph(11, KINDS)
    return graph, build(graph, tmp_path_factory.mktemp("model"))


def test_engines_agree_on_the_file(packed):
    graph, path = packed
    feeds = feeds_for(graph)
    expected = Reference(graph).run(feeds, raw=True)
    for pipe in ("sim", "reference"):
        engine = open_engine(pipe, path)
        assert engine.name == pipe
        got = engine.run(feeds, raw=True)
        for name in graph.outputs:
            np.testing.assert_array_equal(got[name], expected[name])
        engine.close()


def test_what_it_says_of_itself(packed):
    graph, path = packed
    model = AxModel.open(path)
    assert (model.meta.name, model.meta.target, model.meta.cores) == ("test", "metis", 2)
    assert [p.name for p in model.meta.outputs] == list(graph.outputs)
    assert set(model.meta.provenance) == {"graph", "weights", "islands", "program", "schedule"}
    assert model.schedule["cores"] == 2
    assert len(model.program.streams) == 2


def refuse(data, path):
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        AxModel.open(path)
    assert str(path) in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_flipped_bit_and_every_truncation_is_refused(packed, tmp_path_factory, data):
    raw = bytearray(packed[1].read_bytes())
    path = tmp_path_factory.getbasetemp() / "damaged.axmodel"
    at = data.draw(st.one_of(st.integers(0, 1200), st.integers(0, len(raw) - 1)))
    if data.draw(st.booleans()):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
        refuse(raw, path)
    else:
        refuse(raw[:at], path)


def resealed(path, change):
    """The file with its program's sections changed by `change`, and all digests right again."""
    outer = {k: bytes(v) for k, v in container.read(path, AXMODEL_MAGIC, range(1, 2), kind=".axmodel").items()}
    inner = {k: bytearray(v) for k, v in container.decode(outer["program"], MAGIC, range(1, 2), where="", kind="").items()}
    change(inner)
    outer["program"] = container.encode(MAGIC, VERSION, inner)
    return container.encode(AXMODEL_MAGIC, 1, outer)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_forged_program_is_refused_or_harmless(packed, tmp_path_factory, data):
    """With mended digests a changed record may be a sound program again. It may compute nonsense; it must not reach outside."""
    graph, source = packed
    section = data.draw(st.sampled_from(["header", "core0", "core1", "buffers", "operands", "epilogues"]))

    def change(inner):
        at = data.draw(st.integers(0, len(inner[section]) - 1))
        how = data.draw(st.sampled_from(["flip", "byte", "cut"]))
        if how == "cut":
            del inner[section][at:]
        else:
            inner[section][at] ^= 1 << data.draw(st.integers(0, 7)) if how == "flip" else data.draw(st.integers(1, 255))

    path = tmp_path_factory.getbasetemp() / "forged.axmodel"
    path.write_bytes(resealed(source, change))
    try:
        model = AxModel.open(path)
    except FormatError:
        return
    engine = SimEngine(model.graph, model.program, model.target)
    try:
        outs = engine.run(feeds_for(graph), raw=True)
    except AxforgeError:
        return
    for name in graph.outputs:
        assert outs[name].shape == graph.tensors[name].shape


@pytest.mark.parametrize(
    "section,value,sentence",
    [
        ("meta", b"{}", "'meta' cannot be understood"),
        ("meta", b"\xff", "'meta' cannot be understood"),
        ("schedule", b"[", "'schedule' cannot be understood"),
        ("program", b"", "not an .axprogram file"),
        ("graph", b"{}", "graph cannot be understood"),
    ],
)
def test_a_section_of_another_kind_is_refused(packed, tmp_path, section, value, sentence):
    sections = {k: bytes(v) for k, v in container.read(packed[1], AXMODEL_MAGIC, range(1, 2), kind=".axmodel").items()}
    (tmp_path / "m").write_bytes(container.encode(AXMODEL_MAGIC, 1, sections | {section: value}))
    with pytest.raises(FormatError, match=sentence):
        AxModel.open(tmp_path / "m")
    del sections[section]
    (tmp_path / "m").write_bytes(container.encode(AXMODEL_MAGIC, 1, sections))
    with pytest.raises(FormatError, match="required sections"):
        AxModel.open(tmp_path / "m")


def test_meta_must_agree_with_graph_and_program(packed, tmp_path):
    sections = {k: bytes(v) for k, v in container.read(packed[1], AXMODEL_MAGIC, range(1, 2), kind=".axmodel").items()}
    for change, sentence in (
        ({"cores": 1}, "another AIPU"),
        ({"outputs": []}, "another graph"),
        ({"target": "nosuch"}, "does not know|another AIPU"),
    ):
        meta = json.dumps(json.loads(sections["meta"]) | change).encode()
        (tmp_path / "m").write_bytes(container.encode(AXMODEL_MAGIC, 1, sections | {"meta": meta}))
        with pytest.raises(FormatError, match=sentence):
            AxModel.open(tmp_path / "m")


def own_target(folder, **changes):
    """A target of one's own, in a file that is gone when the model is used."""
    text = yaml.safe_load((resources.files("axcompiler") / "targets" / "metis.yaml").read_text()) | {"name": "mine"} | changes
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(text))
    return path


def test_a_model_for_an_aipu_of_ones_own_carries_its_description(tmp_path, capsys):
    graph = random_graph(3, KINDS)
    described = own_target(tmp_path, clock_hz=1_000_000)
    path = build(graph, tmp_path / "own", aipu=str(described))
    described.unlink()
    assert main(["verify", str(path)]) == 0
    assert AxModel.open(path).target.clock_hz == 1_000_000
    feeds = feeds_for(graph)
    for name, expected in Reference(graph).run(feeds, raw=True).items():
        np.testing.assert_array_equal(open_engine("sim", path).run(feeds, raw=True)[name], expected)
    assert main(["dump", str(path)]) == 0
    assert "for mine with 2 cores" in capsys.readouterr().out


def test_the_name_of_a_target_is_never_a_path(tmp_path):
    """A file that says it is for the AIPU '/some/where' must not make the reader open that file."""
    path = build(random_graph(3, KINDS), tmp_path / "own", aipu=str(own_target(tmp_path, name=str(tmp_path / "mine.yaml"))))
    sections = {k: bytes(v) for k, v in container.read(path, AXMODEL_MAGIC, range(1, 2), kind=".axmodel").items()}
    schedule = json.loads(sections["schedule"])
    del schedule["target"]
    (tmp_path / "m").write_bytes(container.encode(AXMODEL_MAGIC, 1, sections | {"schedule": json.dumps(schedule).encode()}))
    with pytest.raises(FormatError, match="does not know"):
        AxModel.open(tmp_path / "m")


def check_trace(events, graph, model):
    """Each unit does one thing at a time, and all that the clock counts is in the trace."""
    spans = sorted((e["pid"], e["tid"], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X")
    assert all(a[:2] != b[:2] or a[3] <= b[2] + 1e-3 for a, b in pairwise(spans))
    cycles = count_cycles(model.program, model.target)
    assert {e["name"] for e in events if e["ph"] == "X"} <= {op.name for op in graph.ops}
    assert sum(e["args"]["multiply-adds"] for e in events if e["ph"] == "X") == sum(layer.macs for layer in cycles.layers)
    assert max(end for *_, end in spans) * model.target.clock_hz / 1e6 <= cycles.total + 1
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == {"core 0", "core 1", "host"}


def test_the_tool_dumps_verifies_and_compares(packed, tmp_path, capsys):
    graph, path = packed
    assert main(["verify", str(path)]) == 0
    assert "sound" in capsys.readouterr().out
    assert main(["dump", str(path), "--instructions"]) == 0
    text = capsys.readouterr().out
    assert all(op.name in text for op in graph.ops)
    assert "mvm out=L1+0x" in text
    assert "frames/s" in text
    assert main(["dump", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meta"]["cores"] == 2
    assert main(["trace", str(path), "-o", str(tmp_path / "t.json")]) == 0
    check_trace(json.loads((tmp_path / "t.json").read_text())["traceEvents"], graph, AxModel.open(path))
    assert main(["trace", str(path), "-o", str(path / "t.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["diff", str(path), str(path)]) == 0
    other = build(graph, tmp_path / "other", cores=1)
    assert main(["diff", str(path), str(other)]) == 1
    assert "cores: 2 -> 1" in capsys.readouterr().out
    broken = tmp_path / "broken.axmodel"
    broken.write_bytes(path.read_bytes()[:-64])
    assert main(["verify", str(broken)]) == 1
    assert "truncated" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 1


def test_unknown_engines_are_named_with_the_nearest(packed):
    with pytest.raises(AxforgeError, match="Did you mean 'reference'"):
        open_engine("referense", packed[1])
