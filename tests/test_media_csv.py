"""--save-output with a .csv: a table that other programs read, with every digit."""

import csv
from pathlib import Path

import numpy as np
import pytest

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.opening import open_sink, open_source
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult
from axforge.axruntime.results.segmentation import Segmentation


def written(path: Path, results: list[PipelineResult]) -> list[list[str]]:
    source = open_source("fakevideo:8x8", frames=len(results))
    with open_sink(path, source, {}) as sink:
        for frame, result in zip(source, results, strict=True):
            sink.add(frame, result)
        assert not path.exists(), "the file appears when it is complete"
    assert sink.report(lambda p: p.name) == f"table: {path.name}"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_boxes_are_rows_of_full_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.random((2, 4)) * 100, rng.random(2)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), ())
    found = Detections(boxes, scores, np.array([0, 1]), ("traffic light, red", 'a "b" ü'))
    head, *rows = written(tmp_path / "r.csv", [nothing, found])
    assert head == ["frame", "source", "object", "score", "left", "top", "right", "bottom"]
    assert [row[:3] for row in rows] == [["1", "fake_000001", "traffic light, red"], ["1", "fake_000001", 'a "b" ü']]
    assert [[float(v) for v in row[3:]] for row in rows] == [[s, *box] for s, box in zip(scores.tolist(), boxes.tolist(), strict=True)]


def test_other_kinds_of_result_have_rows_too(tmp_path: Path) -> None:
    head, *rows = written(tmp_path / "c.csv", [Classification((3, 1), (1 / 3, 0.25), ("cat", "dog"))])
    assert (head, rows) == (
        ["frame", "source", "class", "score"],
        [["0", "fake_000000", "cat", repr(1 / 3)], ["0", "fake_000000", "dog", "0.25"]],
    )
    mask = np.zeros((2, 4), np.uint8)
    mask[0, 0] = 1
    head, *rows = written(tmp_path / "s.csv", [Segmentation(mask, ("ground", "tree"))])
    assert head == ["frame", "source", "class", "pixels", "share"]
    assert [row[2:] for row in rows] == [["ground", "7", "87.5"], ["tree", "1", "12.5"]]


def test_a_run_that_breaks_off_leaves_the_rows_until_then_and_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    source = open_source("fakevideo:8x8", frames=1)
    frame = next(iter(source))

    def fail() -> None:
        with open_sink(tmp_path / "r.csv", source, {}) as sink:
            sink.add(frame, Classification((1,), (0.5,), ("cat",)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "r.csv").read_text() == "frame,source,class,score\n0,fake_000000,cat,0.5\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(AxforgeError, match="cannot be written") as caught, open_sink(tmp_path / "file" / "r.csv", source, {}) as sink:
        sink.add(frame, Classification((1,), (0.5,), ("cat",)))
    assert caught.value.where.endswith("r.csv")
