"""Streams: steps overlap, keep the order, wait for one another, and end; the results are those of one call for each picture."""

import gc
import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from deployed_models import DETECTOR, detector, publish

import axforge
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.pipeline.geometry import Prepared
from axforge.axruntime.pipeline.pipeline import Pipeline
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.streaming.flow import STEPS, Flight, FrameFlow, Intake
from axforge.axruntime.streaming.overlap import ROOM, Overlap
from axforge.axruntime.streaming.timing import StreamTiming


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[axforge.Model]:
    """A tiny detector."""
    folder = publish(detector(), DETECTOR, tmp_path_factory.mktemp("stream") / "finder" / "1")
    with axforge.Model(folder, threads=1) as opened:
        yield opened


def cells(count: int, made: list[int]) -> Generator[list[int], None, None]:
    for i in range(count):
        made.append(i)
        yield [i]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("axforge-stream")]


def test_order_is_kept_and_every_step_works() -> None:
    def slow_on_some(cell: list[int]) -> None:
        time.sleep(0.002 * (cell[0] % 3))
        cell.append(1)

    with Overlap(cells(50, []), [slow_on_some, lambda cell: cell.append(2)]) as flow:
        assert list(flow) == [[i, 1, 2] for i in range(50)]
    assert threads() == []


def test_steps_work_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=20)  # broken unless both steps are in it at once

    def meet(cell: list[int]) -> None:
        if cell[0] in (1, 2):
            together.wait()

    def first(cell: list[int]) -> None:
        if cell[0] == 2:
            meet(cell)

    def second(cell: list[int]) -> None:
        if cell[0] == 1:
            meet(cell)

    with Overlap(cells(3, []), [first, second]) as flow:
        assert list(flow) == [[0], [1], [2]]


def test_a_fast_source_waits_for_a_slow_reader() -> None:
    made: list[int] = []
    with Overlap(cells(1000, made), [lambda cell: None]) as flow:
        for _ in flow:
            time.sleep(0.3)
            break
        assert len(made) <= 2 * ROOM + 4
    assert threads() == []


def test_an_error_comes_after_the_items_before_it_and_ends_the_source() -> None:
    made: list[int] = []

    def fails(cell: list[int]) -> None:
        if cell[0] == 5:
            raise AxforgeError("the sixth is bad")

    def all_of(flow: Overlap[list[int]], got: list[int]) -> None:
        for cell in flow:
            got += cell

    got: list[int] = []
    with Overlap(cells(1000, made), [lambda cell: None, fails]) as flow, pytest.raises(AxforgeError, match="the sixth is bad"):
        all_of(flow, got)
    assert got == [0, 1, 2, 3, 4]
    assert len(made) < 20
    assert threads() == []


def test_leaving_closes_the_source_in_its_thread() -> None:
    ended: list[str] = []

    def items() -> Generator[list[int], None, None]:
        try:
            while True:
                yield [0]
        finally:
            ended.append(threading.current_thread().name)

    with Overlap(items(), []) as flow:
        next(iter(flow))
    assert ended == ["axforge-stream-0"]


def test_a_stream_gives_what_calls_give(model: axforge.Model) -> None:
    found = list(model.stream("fakevideo:80x60", frames=7))
    assert len(found) == 7
    for index, result in enumerate(found):
        alone = model(fake_picture(80, 60, index))
        assert result.to_json() == alone.to_json()
        assert result.picture is not None
        assert (result.picture == fake_picture(80, 60, index)).all()
    assert threads() == []


def test_a_stream_of_a_path_needs_one_call(tmp_path: Path) -> None:
    folder = publish(detector(), DETECTOR, tmp_path / "finder" / "1")
    assert [type(found) for found in axforge.stream(folder, "fakevideo:32x32", frames=2)] == [Detections, Detections]
    with pytest.raises(AxforgeError, match="there is no such file"):
        next(iter(axforge.stream(folder, str(tmp_path / "gone.mp4"))))


def test_a_model_may_be_closed_while_a_stream_is_open(model: axforge.Model, tmp_path: Path) -> None:
    opened = axforge.Model(publish(detector(), DETECTOR, tmp_path / "finder" / "1"))
    stream = iter(opened.stream("fakevideo:32x32", frames=90))
    next(stream)
    opened.close()
    with pytest.raises(AxforgeError, match="the model is closed"):
        list(stream)


def test_memory_does_not_grow(model: axforge.Model) -> None:
    picture = fake_picture(64, 48, 0)
    source = FrameSource("x", 600, video=True, fps=None, frames=lambda: (Frame(i, str(i), picture.copy()) for i in range(600)))
    levels = []
    tracemalloc.start()
    for i, _ in enumerate(model.flights(source)):
        if i in (100, 599):
            gc.collect()
            levels.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert levels[1] - levels[0] < 12 * picture.nbytes


def test_what_cannot_be_used_comes_in_its_place(model: axforge.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, intake = Pipeline(model._described(), model._engine), Intake()
    prepare = pipeline.prepare

    def picky(image: Array) -> Prepared:
        if image.shape == (4, 4, 3):
            raise AxforgeError("it is too small")
        return prepare(image)

    monkeypatch.setattr(pipeline, "prepare", picky)

    def read() -> Iterator[Frame]:
        yield Frame(0, "a", fake_picture(8, 8, 0))
        intake.skip(Skipped(1, "b", "it is damaged"))
        yield Frame(2, "c", fake_picture(4, 4, 0))  # which the pipeline refuses
        intake.skip(Skipped(3, "d", "it is damaged, too"))

    def flow(*, lenient: bool) -> list[Flight]:
        with FrameFlow(pipeline, intake.flights(FrameSource("x", 4, video=False, fps=None, frames=read)), lenient=lenient) as flights:
            return list(flights)

    seen = [(f.skipped.name if f.skipped else None, f.result is not None) for f in flow(lenient=True)]
    assert seen == [(None, True), ("b", False), ("c", False), ("d", False)]
    with pytest.raises(AxforgeError, match="too small"):
        flow(lenient=False)


def test_stats_name_the_slowest_step() -> None:
    timing = StreamTiming()
    for _ in range(4):
        timing.add(Flight(seconds=dict.fromkeys(STEPS, 0.001) | {"inference": 0.008}, began=time.perf_counter() - 0.05), 0.001)
    table = timing.steps()
    assert [row[0] for row in table.rows] == [*STEPS, "draw and write"]
    assert table.rows[2] == ["inference", "8.00", "67%"]
    assert "the bottleneck is inference: 125.0 frames/s" in table.sentence
    latency = timing.delays().rows[0]
    assert latency[0] == "latency"
    assert all(50 <= float(value) < 1000 for value in latency[1:])


def test_one_frame_has_no_speed() -> None:
    timing = StreamTiming()
    timing.add(Flight(), 0.1)
    assert timing.steps().rows == timing.delays().rows == []


BOXES = Detections(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8.5]]), np.array([0.9, 0.1]), np.array([0, 1]), ("cat", "dog"), np.array([7, -1]))


def test_results_as_a_data_frame() -> None:
    pytest.importorskip("pandas", reason="to_dataframe gives its type")
    frame = BOXES.to_dataframe()
    assert list(frame.columns) == ["object", "score", "left", "top", "right", "bottom", "track"]
    assert frame["bottom"].tolist() == [4.0, 8.5]
    assert Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), ()).to_dataframe().shape == (0, 6)
    assert Classification((1,), (0.5,), ("cat",)).to_dataframe().to_dict("records") == [{"class": "cat", "score": 0.5}]


def test_boxes_as_supervisions() -> None:
    pytest.importorskip("supervision", reason="to_supervision gives its type")
    theirs = BOXES.to_supervision()
    assert theirs.xyxy.tolist() == BOXES.boxes.tolist()
    assert (theirs.class_id.tolist(), theirs.tracker_id.tolist()) == ([0, 1], [7, -1])
    assert theirs.data["class_name"].tolist() == ["cat", "dog"]
    assert len(Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), ()).to_supervision()) == 0
    with pytest.raises(AxforgeError, match="a Classification has no boxes"):
        Classification((1,), (0.5,), ("cat",)).to_supervision()
