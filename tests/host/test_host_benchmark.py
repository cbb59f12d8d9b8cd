"""The benchmark of the host engine measures prepared graphs in processes of its own worker."""

import sys
from pathlib import Path

import pytest
from host_support import conv_graph

from axforge.axcompiler import graphfile
from axforge.axruntime.bench.measure import EngineProcess, run_by_turns
from axforge.axruntime.bench.messages import Load

WORKER = Path(__file__).parents[2] / "benchmarks" / "engine_worker.py"


def test_a_graph_is_measured_by_the_worker_of_the_benchmark(tmp_path):
    graph = conv_graph(4, 4, 5, 5)
    graphfile.save(graph, tmp_path / "cut.axgraph")
    load = Load(engine="aipu-host", file=str(tmp_path / "cut.axgraph"), threads=1, seed=0)
    with EngineProcess("aipu-host", load, (str(WORKER),)) as process:
        loaded = process.start()
        run_by_turns([process], 0.02)
        figures = process.figures()
    assert loaded.shapes == {"x": (1, 4, 5, 5)}
    assert figures.code_path
    assert figures.frames >= figures.rounds > 0


def test_a_restriction_leaves_out_the_engines_that_do_not_take_it(monkeypatch):
    monkeypatch.syspath_prepend(str(WORKER.parent))
    import host_engine

    assert len(host_engine._others(None)) == len(host_engine.ENGINES) - 1
    assert host_engine._others("avx2") == ["openvino int8 (QDQ)", "openvino int8 (NNCF)"]
    assert host_engine.floor_of("onnxruntime int8", "yolov5s") == 1.65
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert host_engine.floor_of("openvino int8 (QDQ)", "yolov5s") == 1.1
    assert host_engine.floor_of("onnxruntime int8", "yolov5s") is None
    with pytest.raises(SystemExit):
        host_engine._parser().parse_args(["--engines", "nothing"])


def test_another_python_runs_the_worker(tmp_path):
    graph = conv_graph(4, 4, 5, 5)
    graphfile.save(graph, tmp_path / "cut.axgraph")
    (tmp_path / "python").write_text(f'#!/bin/sh\ntouch {tmp_path}/was-here\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    load = Load(engine="aipu-host", file=str(tmp_path / "cut.axgraph"), threads=1, seed=0)
    with EngineProcess("aipu-host", load, (str(WORKER),), str(tmp_path / "python")) as process:
        process.start()
    assert (tmp_path / "was-here").exists()
