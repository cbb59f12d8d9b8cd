"""Measuring: arithmetic on given times, the processes of engines, and the document. No test depends on how fast anything runs."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import onnx_models
import pytest
from graphs import random_graph

from axforge.axcompiler import graphfile, pack, tile
from axforge.axcompiler.errors import AxforgeError
from axforge.axcompiler.stages import PackConfig, TileConfig
from axforge.axruntime.bench import measure, memory, report, worker
from axforge.axruntime.bench.__main__ import main
from axforge.axruntime.bench.document import BenchReport
from axforge.axruntime.bench.measure import EngineProcess, bench, find_model, find_onnx, ratio
from axforge.axruntime.bench.messages import Load
from axforge.axruntime.bench.timing import figures, percentile, run_for, warm_up

MS = 1_000_000


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model, in a folder as the build has it: <model>/<cores>/model.axmodel."""
    folder = tmp_path_factory.mktemp("build") / "tiny" / "1"
    folder.mkdir(parents=True)
    graphfile.save(random_graph(3, ("conv", "add")), folder / "graph.axgraph")
    tile.run({"graph.axgraph": folder / "graph.axgraph"}, TileConfig(cores=1), folder)
    pack.run({n: folder / n for n in ("graph.axgraph", "program.axprogram", "schedule.json")}, PackConfig("tiny"), folder)
    return folder / "model.axmodel"


class FakeTime:
    """A clock that frames move on: the next frame takes the next of `times` (nanoseconds), the last one for ever."""

    def __init__(self, times: list[int]) -> None:
        self.now, self._times = 0, times

    def __call__(self) -> int:
        return self.now

    def frame(self) -> None:
        self.now += self._times.pop(0) if len(self._times) > 1 else self._times[0]


def test_percentiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 10, 99, 100, 101, 1000):
        values = sorted(rng.random(count).tolist())
        for share in (0.0, 0.5, 0.9, 0.99, 1.0):
            assert percentile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


def test_figures_of_given_times() -> None:
    found = figures([n * MS for n in range(101, 0, -1)])
    assert (found.min_ms, found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms, found.mean_ms) == (1, 51, 91, 100, 101, 51)


def test_a_round_ends_after_its_time_and_has_one_frame_at_least() -> None:
    clock = FakeTime([7 * MS])
    assert run_for(clock.frame, 0.020, clock) == [7 * MS] * 3
    clock = FakeTime([900 * MS])
    assert run_for(clock.frame, 0.020, clock) == [900 * MS]


def test_warming_up_goes_on_while_frames_get_faster_and_ends_some_time() -> None:
    clock = FakeTime([(200 - n) * MS for n in range(0, 150, 10)] + [50 * MS])
    found = warm_up(clock.frame, clock)
    assert found.stable
    assert 15 < found.frames < 30
    falling = FakeTime([round(400 * MS * 0.99**n) for n in range(400)])
    found = warm_up(falling.frame, falling)
    assert not found.stable or found.seconds >= 5
    slow = FakeTime([6000 * MS])
    assert warm_up(slow.frame, slow).frames == 1


def test_the_same_seed_gives_the_same_inputs_of_the_right_shape() -> None:
    inputs = {"image": ((-1, 3, 4, -1), "float32"), "ids": ((1, 5), "int64"), "mask": ((2,), "bool")}
    feeds = worker.random_feeds(inputs, {"image": (2, 3, 4, 6)}, 5)
    again = worker.random_feeds(inputs, {"image": (2, 3, 4, 6)}, 5)
    assert {name: (a.shape, str(a.dtype)) for name, a in feeds.items()} == {
        "image": ((2, 3, 4, 6), "float32"),
        "ids": ((1, 5), "int64"),
        "mask": ((2,), "bool"),
    }
    for name in inputs:
        np.testing.assert_array_equal(feeds[name], again[name])
    assert worker.random_feeds(inputs, {}, 5)["image"].shape == (1, 3, 4, 1)


def test_the_report_of_a_compiled_model_and_its_onnx(compiled: Path, tmp_path: Path) -> None:
    onnx = onnx_models.save(onnx_models.small_net(batch="n", size=16), tmp_path)
    found = bench(compiled, onnx, threads=1, seconds=0.1, seed=3)
    ours, other = found.engines
    assert (ours.engine, other.engine) == ("aipu-host", "onnxruntime")
    assert ours.code_path
    assert not other.code_path
    for engine in found.engines:
        times = engine.latency
        assert 0 < times.min_ms <= times.p50_ms <= times.p90_ms <= times.p99_ms <= times.max_ms
        assert engine.frames_per_second == pytest.approx(1000 / times.mean_ms)
        assert engine.frames >= engine.rounds >= 4
        assert engine.warm_up.frames >= 1
        assert engine.load_ms > 0
        assert engine.memory_bytes is None or engine.memory_bytes >= 0
    assert found.ratio is not None
    assert found.ratio.medians == pytest.approx(other.latency.p50_ms / ours.latency.p50_ms)
    assert found.ratio.minima == pytest.approx(other.latency.min_ms / ours.latency.min_ms)
    assert found.notes == ()
    shown = report.text(found)
    assert "times as fast as onnxruntime" in shown
    assert ours.code_path in shown


def test_the_document_survives_json_and_has_stable_keys(compiled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(compiled.parent), "--json", "--alone", "--threads", "1", "--seconds", "0.05"]) == 0
    text = capfd.readouterr().out
    found = msgspec.json.decode(text, type=BenchReport)
    assert found.ratio is ratio(found.engines) is None
    document = json.loads(text)
    assert sorted(document) == ["computer", "engines", "model", "notes", "ratio", "seconds", "seed", "version"]
    assert sorted(document["engines"][0]) == [
        *("code_path", "engine", "features", "file", "frames", "frames_per_second"),
        *("latency", "load_ms", "memory_bytes", "rounds", "threads", "version", "warm_up"),
    ]
    assert sorted(document["engines"][0]["latency"]) == ["max_ms", "mean_ms", "min_ms", "p50_ms", "p90_ms", "p99_ms"]


def test_each_engine_has_a_process_of_its_own_that_ends(compiled: Path) -> None:
    load = Load(engine="aipu-host", file=str(compiled), threads=1, seed=0)
    with EngineProcess("one", load) as one, EngineProcess("two", load) as two:
        one.start()
        two.start()
        processes = [one._process, two._process]
        assert len({os.getpid(), *(p.pid for p in processes)}) == 3
        one.run_round(0.01)
        assert one.times
        assert not two.times
    assert [p.returncode for p in processes] == [0, 0]


def test_engines_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turns:
        calls: ClassVar[list[tuple[str, float]]] = []

        def __init__(self, name: str) -> None:
            self.name = name

        def run_round(self, seconds: float) -> None:
            self.calls.append((self.name, seconds))

    measure.run_by_turns([Turns("a"), Turns("b")], 1.0)  # type: ignore[list-item]
    assert "".join(name for name, _ in Turns.calls) == "abba" * 2
    assert sum(seconds for name, seconds in Turns.calls if name == "a") == pytest.approx(1.0)


def test_an_engine_that_dies_is_a_sentence(compiled: Path) -> None:
    with EngineProcess("one", Load(engine="aipu-host", file=str(compiled), threads=1, seed=0)) as one:
        one.start()
        one._process.send_signal(signal.SIGTERM)
        one._process.wait()
        with pytest.raises(AxforgeError, match=r"the process of one was ended by SIGTERM"):
            one.run_round(0.01)


def test_an_onnx_that_onnxruntime_cannot_load_is_a_note(compiled: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no onnx")
    found = bench(compiled, bad, threads=1, seconds=0.02)
    assert len(found.engines) == 1
    assert found.ratio is None
    assert "onnxruntime was not measured" in found.notes[0]
    assert found.notes[0] in report.text(found)


def test_an_engine_whose_library_is_missing_says_so(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), *sys.path]))
    onnx = onnx_models.save(onnx_models.small_net(), tmp_path)
    found = bench(compiled, onnx, threads=1, seconds=0.02)
    assert "cannot be imported: not here" in found.notes[0]


def test_a_bundle_is_measured_as_it_is(compiled: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as archive:
        archive.write(compiled, compiled.name)
    found = bench(find_model(tmp_path / "tiny.zip"), threads=1, seconds=0.02)
    assert [engine.engine for engine in found.engines] == ["aipu-host"]


def test_an_onnx_is_measured_alone(tmp_path: Path) -> None:
    found = bench(onnx_models.save(onnx_models.small_net(), tmp_path), threads=1, seconds=0.02)
    assert [engine.engine for engine in found.engines] == ["onnxruntime"]


def test_libraries_that_print_do_not_disturb_the_replies(tmp_path: Path) -> None:
    serve = "lambda requests, replies, engines: (os.write(1, b'noise'), replies.write(b'reply'), replies.flush())"
    code = f"import os; from axforge.axruntime.bench import worker; worker.serve = {serve}; worker.main(worker.Engines())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, input=b"")
    assert done.stdout == b"reply"
    assert b"noise" in done.stderr


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    for place in ("a/m/1", "a/m/2", "b/m/1", "b/m/stages/fetch"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("a/m/1", "a/m/2", "b/m/1"):
        (tmp_path / place / "model.axmodel").touch()
    (tmp_path / "b/m/stages/fetch/model.onnx").touch()
    return tmp_path  # type: ignore[return-value]


def test_a_folder_means_its_one_model(folders: Path) -> None:
    assert find_model(folders / "b") == find_model(folders / "b" / "m") == find_model(folders / "b/m/1") == folders / "b/m/1/model.axmodel"
    assert find_onnx(folders / "b/m/1/model.axmodel") == folders / "b/m/stages/fetch/model.onnx"
    assert find_onnx(folders / "a/m/1/model.axmodel") is None
    with pytest.raises(AxforgeError, match=r"has 2 compiled models"):
        find_model(folders / "a")
    with pytest.raises(AxforgeError, match=r"has no model\.axmodel"):
        find_model(folders / "b/m/stages")


@pytest.mark.parametrize("words", [["nothing.axmodel"], ["damaged.axmodel"], ["."], ["damaged.axmodel", "--onnx", "no.onnx"]])
def test_mistakes_are_sentences(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.axmodel").write_bytes(b"AXM1 and not much more")
    assert main([*words, "--seconds", "0.02"]) == 1
    captured = capfd.readouterr()
    assert "bench: " in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", [["--threads", "0"], ["--threads", "many"], ["--seconds", "nan"], ["--seconds", "-1"]])
def test_numbers_out_of_range_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["x.axmodel", *words])
    assert "is not a number from" in capsys.readouterr().err


def test_memory_is_a_number_or_unknown() -> None:
    memory.forget_peak()
    now, peak = memory.current(), memory.peak()
    assert (now is None) == (peak is None)
    assert now is None or now > 1_000_000
