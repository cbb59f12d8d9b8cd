"""The benchmark of the host engine measures prepared graphs in processes of its own worker."""

from pathlib import Path

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
