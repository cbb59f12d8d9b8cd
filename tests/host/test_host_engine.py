"""What users of the engine rely on: threads, several callers, forks, clear errors, and real numbers in and out."""

import os
import threading

import numpy as np
import pytest
from host_support import MemoryCache, codes, conv_graph, shared_cache

from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.reference import Reference
from axforge.axruntime.engines.host import HostEngine


@pytest.fixture
def graph():
    return conv_graph(16, 24, 20, 20, 3, 1, 1)


def test_says_what_it_takes_and_gives(graph):
    engine = HostEngine(graph, 1, cache=shared_cache())
    assert engine.name == "aipu-host"
    assert engine.inputs == {"x": ((1, 16, 20, 20), "float32")}
    assert engine.outputs == {"y": ((1, 24, 20, 20), "float32")}


def test_quantizes_real_numbers_as_the_definition_does(graph):
    """Numbers on ties, far outside the range, infinite, and not a number."""
    x = (np.random.default_rng(0).integers(-600, 600, (1, 16, 20, 20)) * np.float32(0.037 / 2)).astype(np.float32)
    x[0, 0, 0, :4] = [np.nan, np.inf, -np.inf, 1e30]
    with np.errstate(invalid="ignore", over="ignore"):
        expected = Reference(graph).run({"x": x})["y"]
    np.testing.assert_array_equal(HostEngine(graph, 1, cache=shared_cache()).run({"x": x})["y"], expected)


def test_results_do_not_depend_on_threads(graph):
    feeds = codes(graph)
    results = [HostEngine(graph, n, cache=shared_cache()).run(feeds, raw=True)["y"] for n in (1, 2, 3, 7)]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_frame_alone_takes_no_other_thread(graph):
    engine = HostEngine(graph, 4)
    feeds = codes(graph)
    found = engine.run(feeds, raw=True, alone=True)
    assert not [thread for thread in engine.pool._workers if thread.is_alive()]
    for name, value in engine.run(feeds, raw=True).items():
        np.testing.assert_array_equal(value, found[name])


def test_several_callers_share_an_engine(graph):
    engine = HostEngine(graph, 2, cache=shared_cache())
    inputs = [codes(graph, seed) for seed in range(8)]
    expected = [Reference(graph).run(f, raw=True)["y"] for f in inputs]
    wrong = []

    def work(i):
        wrong.extend(i for _ in range(10) if not np.array_equal(engine.run(inputs[i], raw=True)["y"], expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    engine.close()
    assert wrong == []


def test_outputs_are_the_callers_own(graph):
    engine = HostEngine(graph, 1, cache=shared_cache())
    first = engine.run(codes(graph, 1), raw=True)["y"]
    kept = first.copy()
    engine.run(codes(graph, 2), raw=True)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_runs_the_parents_engine(graph):
    engine = HostEngine(graph, 2, cache=shared_cache())
    feeds = codes(graph)
    expected = engine.run(feeds, raw=True)["y"]
    child = os.fork()
    if child == 0:
        same = np.array_equal(engine.run(feeds, raw=True)["y"], expected)
        engine.close()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(engine.run(feeds, raw=True)["y"], expected)
    engine.close()


def test_missing_and_misshapen_inputs_are_named(graph):
    engine = HostEngine(graph, 1, cache=shared_cache())
    with pytest.raises(AxforgeError, match="input 'x' is missing"):
        engine.run({})
    with pytest.raises(AxforgeError, match=r"shape \[1, 2\]"):
        engine.run({"x": np.zeros((1, 2), np.float32)})


def test_an_unknown_code_path_is_named(graph, monkeypatch):
    monkeypatch.setenv("AXFORGE_HOST_CPU", "z80")
    with pytest.raises(AxforgeError, match="z80"):
        HostEngine(graph, 1, cache=MemoryCache())


def test_the_environment_chooses_the_path(graph, monkeypatch):
    monkeypatch.setenv("AXFORGE_HOST_CPU", "generic")
    assert HostEngine(graph, 1, cache=shared_cache()).isa.name == "generic"
