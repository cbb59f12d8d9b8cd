"""What is stored comes back byte for byte, is made once, and what users do to published files never damages it."""

import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cache_support import BIG, build, is_right, make_action, make_store, outputs_for, stored_files, tree_of

from axforge.cache.build import obtain
from axforge.cache.errors import CacheError
from axforge.cache.history import last
from axforge.cache.store import Store


def test_built_once_then_restored_anywhere(tmp_path: Path) -> None:
    runs: list[bytes] = []
    for number in range(3):
        store, said = make_store(tmp_path / "c")
        result = build(store, b"model", tmp_path / f"dest{number}", runs, label="m")
        assert is_right(tmp_path / f"dest{number}", b"model")
        assert result.how == ("ran" if number == 0 else "restored")
        assert said == []
    assert runs == [b"model"]


def test_records_hold_provenance_and_log(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest", label="yolo").record
    again = store.lookup(make_action(b"model", store))
    assert again is not None
    assert again == record
    assert again.label == "yolo"
    assert again.provenance["seconds"] >= 0
    assert again.log is not None
    assert store.blobs.read(again.log) == b"worked on 5 bytes\n"


def test_equal_contents_are_stored_once(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "dest")
    before = stored_files(tmp_path / "c", "cas")
    build(store, b"model", tmp_path / "dest", changes={"config": {"scheme": "minmax"}})
    assert stored_files(tmp_path / "c", "cas") == before
    assert len(stored_files(tmp_path / "c", "ac")) == 2


def test_stored_and_published_files_are_read_only(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "dest")
    for path in [*stored_files(tmp_path / "c", "cas"), *(tmp_path / "dest").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_large_files_are_shared_and_small_ones_copied(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    blob = store.layout.blob(record.output("big.bin").sha256)
    reflinked = subprocess.run(["cp", "--reflink=always", blob, tmp_path / "try"], capture_output=True).returncode == 0
    assert os.path.samefile(blob, tmp_path / "dest" / "big.bin") == (not reflinked)
    assert not os.path.samefile(store.layout.blob(record.output("small.json").sha256), tmp_path / "dest" / "small.json")


def test_without_links_everything_is_a_copy(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c", link=False)
    record = build(store, b"model", tmp_path / "dest").record
    assert not os.path.samefile(store.layout.blob(record.output("big.bin").sha256), tmp_path / "dest" / "big.bin")
    assert is_right(tmp_path / "dest", b"model")


@pytest.mark.parametrize("name", ["big.bin", "small.json"])
def test_a_user_who_forces_an_edit_into_a_published_file_gets_it_back_right(tmp_path: Path, name: str) -> None:
    """chmod and write in place: through a link that reaches the stored file. It is noticed, set aside, and built again."""
    store, said = make_store(tmp_path / "c")
    runs: list[bytes] = []
    result = build(store, b"model", tmp_path / "dest", runs)
    assert store.intact(result.record, tmp_path / "dest")
    published = tmp_path / "dest" / name
    published.chmod(0o644)
    with open(published, "r+b") as stream:
        stream.write(b"edited")
    assert not store.intact(result.record, tmp_path / "dest")
    build(store, b"model", tmp_path / "other", runs)
    build(store, b"model", tmp_path / "dest", runs)
    assert is_right(tmp_path / "dest", b"model")
    assert is_right(tmp_path / "other", b"model")
    assert any("damaged" in sentence for sentence in said) == (len(runs) == 2)


def test_an_editor_that_writes_a_new_file_leaves_the_cache_alone(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "dest")
    (tmp_path / "new").write_bytes(b"edited")
    os.replace(tmp_path / "new", tmp_path / "dest" / "big.bin")
    assert build(store, b"model", tmp_path / "dest").how == "restored"
    assert is_right(tmp_path / "dest", b"model")
    assert said == []


def test_intact_notices_what_is_gone_or_cut_off(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    (tmp_path / "dest" / "small.json").unlink()
    assert not store.intact(record, tmp_path / "dest")
    store.restore(record, tmp_path / "dest")
    assert store.intact(record, tmp_path / "dest")
    (tmp_path / "short").write_bytes(outputs_for(b"model")["big.bin"][:-1])
    os.replace(tmp_path / "short", tmp_path / "dest" / "big.bin")
    assert not store.intact(record, tmp_path / "dest")


def test_force_runs_again(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    runs: list[bytes] = []
    for _ in range(2):
        build(store, b"model", tmp_path / "dest", runs, force=True)
    assert len(runs) == 2


def test_an_input_that_changes_while_the_stage_runs_keeps_nothing(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    source = tmp_path / "in"
    source.write_bytes(b"one")

    def run(work: Path) -> None:
        for name, data in outputs_for(source.read_bytes()).items():
            (work / name).write_bytes(data)
        source.write_bytes(b"two")

    with pytest.raises(CacheError, match="changed while it ran"):
        obtain(store, make_action(source, store), tmp_path / "dest", run, recheck=lambda: make_action(source, store))
    assert stored_files(tmp_path / "c", "ac") == []
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize(("names", "message"), [(["big.bin"], "did not write small.json"), (["big.bin", "small.json", "x"], "wrote x")])
def test_a_stage_must_write_exactly_what_it_declares(tmp_path: Path, names: list[str], message: str) -> None:
    store, _ = make_store(tmp_path / "c")

    def run(work: Path) -> None:
        for name in names:
            (work / name).write_bytes(b"")

    with pytest.raises(CacheError, match=message):
        obtain(store, make_action(b"m", store), tmp_path / "dest", run)
    assert stored_files(tmp_path / "c", "ac") == []


def test_what_a_stage_raises_passes_and_leaves_nothing(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")

    def run(work: Path) -> None:
        (work / "big.bin").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        obtain(store, make_action(b"m", store), tmp_path / "dest", run)
    assert stored_files(tmp_path / "c", "ac") == stored_files(tmp_path / "c", "tmp") == []
    assert not (tmp_path / "dest").exists()


def test_a_stage_that_gives_other_bytes_for_the_same_inputs_is_named(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c")
    for number in range(2):

        def run(work: Path, number: int = number) -> None:
            (work / "big.bin").write_bytes(b"%d" % number)
            (work / "small.json").write_bytes(b"{}")

        obtain(store, make_action(b"m", store), tmp_path / "dest", run, force=True)
    assert len(said) == 1
    assert "other bytes than before for the same inputs: big.bin" in said[0]
    record = store.record(make_action(b"m", store).key())
    assert record is not None
    assert record.provenance["nondeterministic"] == "big.bin"


def test_lists_of_files_are_kept_with_the_record(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    tree = tree_of({"img_1.jpg": b"1", "img_2.jpg": b"2"})
    record = build(store, b"m", tmp_path / "dest", changes={"inputs": {"calibration": tree}}).record
    assert store.blobs.read(record.manifests["calibration"]) == tree.manifest()


def test_secrets_are_in_neither_record_nor_log(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")

    def run(work: Path) -> str:
        for name in ("big.bin", "small.json"):
            (work / name).write_bytes(b"")
        return "fetched https://anna:hunter2@host/x with token=abcdef and Authorization: Bearer qwertz\n"

    obtain(store, make_action(b"m", store), tmp_path / "dest", run, label="rtsp://bob:hunter3@cam")
    text = b"".join(path.read_bytes() for path in stored_files(tmp_path / "c"))
    for secret in (b"hunter2", b"hunter3", b"abcdef", b"qwertz", b"anna"):
        assert secret not in text


def test_the_last_build_is_remembered_by_workspace(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    one = build(store, b"one", tmp_path / "d1", label="m", scope="/ws1").record
    two = build(store, b"two", tmp_path / "d2", label="m", scope="/ws2").record
    assert last(store, "/ws1", "m", "quantize") == one
    assert last(store, "/ws2", "m", "quantize") == two
    assert last(store, "/ws3", "m", "quantize") is None


# ---------------------------------------------------------------------- many processes


def _slow_build(root: Path, dest: Path, log: Path) -> None:
    store = Store(root, durable=False)

    def run(work: Path) -> None:
        with open(log, "a") as stream:
            stream.write("ran\n")
        time.sleep(0.3)
        for name, data in outputs_for(b"model").items():
            (work / name).write_bytes(data)

    obtain(store, make_action(b"model", store), dest, run)


def test_of_many_processes_exactly_one_runs_the_stage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_slow_build, args=(tmp_path / "c", tmp_path / f"dest{i}", tmp_path / "log")) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert (tmp_path / "log").read_text() == "ran\n"
    for i in range(6):
        assert is_right(tmp_path / f"dest{i}", b"model")


def _many_builds(root: Path, base: Path, seed: int) -> None:
    store = Store(root, durable=False, size_limit=6 * BIG)
    for number in range(12):
        source = b"source %d" % ((number * (seed + 1)) % 7)
        dest = base / f"{seed}-{number}"
        build(store, source, dest)
        if not is_right(dest, source):
            raise AssertionError(f"{dest} is wrong")


def test_many_processes_share_a_cache_that_is_cleaned_meanwhile(tmp_path: Path) -> None:
    """Building, restoring, and cleaning for a size limit that is too small for all, at once: every result is right."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many_builds, args=(tmp_path / "c", tmp_path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def test_two_processes_may_write_the_same_destination(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from cache_support import build, make_store\n"
        "store, said = make_store(Path(sys.argv[2]) / 'c')\n"
        "for i in range(30): build(store, b'model', Path(sys.argv[2]) / 'dest')\n"
        "assert not [s for s in said if not s.startswith('Waiting')], said\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert is_right(tmp_path / "dest", b"model")
