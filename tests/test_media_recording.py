"""Results are on the disk as they come, whole whenever a run ends, and never in the place of other results."""

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.growing import GrowingFile
from axforge.axruntime.media.images import write_image
from axforge.axruntime.media.naming import free_stem
from axforge.axruntime.media.opening import names_file, open_source
from axforge.axruntime.media.recording import Recording, result_files
from axforge.axruntime.media.sinks.json_document import result_document
from axforge.axruntime.media.source import Frame, FrameSource, Skipped
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.media.stopping import StopGuard, Stopped
from axforge.axruntime.results.classification import Classification
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.result import PipelineResult

CAT = Classification((1,), (0.5,), ("cat\n\u2028ü",))
HEADER = {"model": "m", "pipe": "sim", "source": "x"}
PICTURE = fake_picture(16, 12, 0)


def source_of(count: int | None, *, video: bool = True) -> FrameSource:
    """A source of `count` small frames."""
    return FrameSource("x", count, video=video, fps=25.0, frames=lambda: iter([Frame(i, f"f{i}", PICTURE) for i in range(count or 0)]))


def boxes(seed: int) -> Detections:
    """A result of some size."""
    rng = np.random.default_rng(seed)
    return Detections(rng.random((20, 4)), rng.random(20), np.zeros(20, np.int64), ("box",) * 20)


def test_a_document_that_grows_is_the_one_that_is_written_at_once(tmp_path: Path) -> None:
    for count in (0, 1, 3):
        for header in ({}, HEADER):
            files = (tmp_path / f"{count}{len(header)}.json",)
            with Recording(files, source_of(count), header) as recording:
                for frame in source_of(count):
                    recording.add(frame, CAT)
            frames = [result_document(frame, CAT) for frame in source_of(count)]
            assert files[0].read_text(encoding="utf-8") == json.dumps({**header, "frames": frames}, indent=2, ensure_ascii=False) + "\n"


def test_a_document_says_what_was_skipped_and_why_it_broke_off(tmp_path: Path) -> None:
    recording = Recording((tmp_path / "r.json", tmp_path / "r.jsonl"), source_of(9), HEADER)

    def work() -> None:
        with recording:
            recording.add(Frame(0, "a.png", PICTURE), CAT)
            recording.skip(Skipped(1, "b.png", "it is damaged"))
            raise AxforgeError("the video breaks off", where="x")

    with pytest.raises(AxforgeError):
        work()
    document = json.loads((tmp_path / "r.json").read_text())
    assert len(document["frames"]) == recording.count == 1
    assert document["skipped"] == [{"frame": 1, "source": "b.png", "reason": "it is damaged"}]
    assert document["stopped"] == "the video breaks off"
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert (lines[0], lines[1]["skipped"]) == (result_document(Frame(0, "a.png", PICTURE), CAT), "it is damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.jsonl"]


@pytest.mark.parametrize("name", ["r.json", "r.jsonl", "r.csv", "r.mp4"])
def test_no_result_is_kept_in_memory(tmp_path: Path, name: str) -> None:
    kept: list[weakref.ref[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = []
    with Recording((tmp_path / name,), source_of(300), HEADER) as recording:
        for frame in source_of(300):
            result = boxes(frame.index)
            kept.append(weakref.ref(result.boxes))
            recording.add(frame, result)
            if frame.index == 30:
                tracemalloc.start()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    del result
    gc.collect()
    assert [reference for reference in kept if reference() is not None] == []
    assert grown < 200_000, "300 results are more than 600 kB of text"


KILLED = """
import os, sys
from pathlib import Path
from axforge.axruntime.media.recording import Recording
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.results.classification import Classification

source = open_source("fakevideo:64x48", frames=500)
with Recording(tuple(map(Path, sys.argv[2:])), source, {"model": "m"}) as recording:
    for frame in source:
        recording.add(frame, Classification((1,), (0.5,), ("cat",)))
        if frame.index == 99:
            os.kill(os.getpid(), int(sys.argv[1]))
"""


def killed(number: int, folder: Path, *names: str) -> int:
    """Kill a run of 500 frames with a signal after 100 of them; its exit status."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(int(number)), *(str(folder / name) for name in names)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files(tmp_path: Path, number: int) -> None:
    assert killed(number, tmp_path, "v.mp4", "r.json", "r.jsonl", "r.csv") != 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert len(document["frames"]) == 100
    assert document["stopped"].startswith("stopped by")
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 100
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 101
    assert len(list(open_source(str(tmp_path / "v.mp4")))) == 100
    assert len(list(tmp_path.iterdir())) == 4


def test_a_killed_process_leaves_lines_and_a_part_that_is_called_so(tmp_path: Path) -> None:
    assert killed(signal.SIGKILL, tmp_path, "v.mp4", "r.json", "r.jsonl") == -9
    assert len([json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]) == 100
    assert not (tmp_path / "r.json").exists()
    assert not (tmp_path / "v.mp4").exists()
    (part,) = tmp_path.glob(".r.json.*.part")
    document = json.loads(part.read_text())
    assert (len(document["frames"]), document["stopped"]) == (100, "the process was killed")


def test_a_signal_waits_for_what_must_not_be_cut_and_a_second_one_is_ignored() -> None:
    steps = []

    def work() -> None:
        with StopGuard() as guard:
            with guard.held():
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("written")
            steps.append("never")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught:
        work()
    assert (steps, caught.value.status, caught.value.name) == (["written"], 143, "SIGTERM")

    def impatient() -> None:
        with StopGuard():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                steps.append("finished")

    with pytest.raises(Stopped):
        impatient()
    assert steps == ["written", "finished"]
    assert signal.getsignal(signal.SIGTERM) is before


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.data, self.position, self.room = bytearray(), 0, room

    def seek(self, position: int) -> None:
        self.position = position

    def write(self, data: memoryview) -> int:
        fits = min(len(data), self.room - self.position)
        if not fits:
            raise OSError(28, "No space left on device")
        self.data[self.position : self.position + fits] = data[:fits]
        self.position += fits
        return fits

    def truncate(self) -> None:
        del self.data[self.position :]


def test_a_full_disk_costs_only_the_piece_that_does_not_fit(tmp_path: Path) -> None:
    for room in range(8, 40):
        disk = Full(room)
        file = GrowingFile(tmp_path / "r.txt")
        file._file.close()
        file._file = disk  # type: ignore[assignment]
        whole = (room - 4) // 4
        for i in range(whole):
            file.append(f"<{i:02}>".encode(), b"END!")
        with pytest.raises(AxforgeError, match="No space left on device"):
            file.append(b"more", b"END!")
        assert disk.data == b"".join(f"<{i:02}>".encode() for i in range(whole)) + b"END!"


def test_a_video_on_a_full_disk_plays_and_has_the_frames_of_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([10**9] * 12 + [10**6] * 9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=next(left)))
    with pytest.raises(AxforgeError, match="No space left on device"):
        write((tmp_path / "v.mp4", tmp_path / "v.json"), source_of(20), HEADER)
    assert len(list(open_source(str(tmp_path / "v.mp4")))) == 12
    assert len(json.loads((tmp_path / "v.json").read_text())["frames"]) == 12


# --- names ----------------------------------------------------------------------------------------------------------------------


def write(files: tuple[Path, ...], source: FrameSource, header: dict[str, str], result: PipelineResult = CAT) -> tuple[Path, ...]:
    """Write the results of all frames."""
    with Recording(files, source, header) as recording:
        for frame in source:
            recording.add(frame, result)
    return files


def test_results_of_other_runs_stay(tmp_path: Path) -> None:
    out, one = tmp_path / "out", source_of(1, video=False)

    def run(origin: str, pipe: str = "sim", model: str = "m") -> str:
        header = HEADER | {"pipe": pipe, "model": model, "origin": origin}
        return write(result_files(None, out, one, header), one, header)[0].name

    names = [run("/a/x.jpg"), run("/b/x.jpg"), run("/a/x.jpg", "onnx"), run("/a/x.jpg", model="n"), run("/c/x.png")]
    assert names == ["x.png", "x-2.png", "x-onnx.png", "x-n.png", "x-3.png"]
    again = [run("/a/x.jpg"), run("/b/x.jpg"), run("/a/x.jpg", "onnx"), run("/a/x.jpg", model="n"), run("/c/x.png")]
    assert again == names, "the same run replaces its own results"


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", PICTURE)
    (tmp_path / "y.json").write_text('{"mine": 1}')
    (tmp_path / "pictures").mkdir()
    assert [free_stem(tmp_path, stem, ".png", HEADER) for stem in ("x", "y", "pictures", "z")] == ["x-2", "y-2", "pictures-2", "z"]
    one = source_of(1, video=False)
    assert result_files(tmp_path / "y.png", tmp_path, one, HEADER) == (tmp_path / "y.png", tmp_path / "y-2.json")
    with pytest.raises(AxforgeError, match="this is the source itself"):
        result_files(tmp_path / "x.png", tmp_path, one, HEADER | {"origin": str(tmp_path / "x.png")})
    with pytest.raises(AxforgeError, match="pictures of the source are in this folder"):
        result_files(tmp_path / "pictures.png", tmp_path, source_of(2, video=False), HEADER | {"origin": str(tmp_path / "pictures")})


@pytest.mark.parametrize(("name", "file"), [("r.json", True), ("v.MP4", True), ("folder", False), ("run.2", False), ("v1.x_final", False)])
def test_a_name_is_a_file_by_its_ending(name: str, file: bool) -> None:
    assert names_file(Path(name)) == file


@pytest.mark.parametrize("name", ["out.xyz", "out.tiff", "out.avi"])
def test_an_ending_that_nobody_writes_is_answered_with_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(AxforgeError, match="results cannot be written as") as caught:
        names_file(Path(name))
    for ending in (".png", ".mp4", ".json", ".jsonl", ".csv", "folder"):
        assert ending in caught.value.fix
    (tmp_path / name).mkdir()
    assert not names_file(tmp_path / name), "a folder may be called so"


# --- what cannot be read --------------------------------------------------------------------------------------------------------


def test_a_picture_of_many_that_cannot_be_read_is_skipped_only_when_asked(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        write_image(tmp_path / name, PICTURE)
    (tmp_path / "b.png").write_bytes(b"broken")
    skipped: list[Skipped] = []
    assert [(f.index, f.name) for f in open_source(str(tmp_path), skip=skipped.append)] == [(0, "a.png"), (2, "c.png")]
    assert [(s.index, s.name) for s in skipped] == [(1, "b.png")]
    assert "damaged or not a picture" in skipped[0].reason
    for text in (str(tmp_path), str(tmp_path / "b.png")):
        with pytest.raises(AxforgeError, match=r"b\.png"):
            list(open_source(text, skip=None if text == str(tmp_path) else skipped.append))


def test_a_video_that_is_cut_short_says_after_how_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(60)
    write((tmp_path / "v.mp4",), source, HEADER)
    monkeypatch.setattr("axforge.axruntime.media.sources.videos.probe", lambda path: (100, 25.0))
    frames = iter(open_source(str(tmp_path / "v.mp4")))
    assert [next(frames).index for _ in range(60)][-1] == 59
    with pytest.raises(AxforgeError, match="breaks off after 60 of 100 frames"):
        next(frames)
    assert len(list(open_source(str(tmp_path / "v.mp4"), frames=50))) == 50
