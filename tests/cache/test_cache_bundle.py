"""Bundles: complete, used with another cache; a hostile or damaged one is refused whole, and a killed import is harmless."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cache_ptrace import possible, run_killed
from cache_support import BIG, build, is_right, make_store, outputs_for, stored_files, tree_of

from axforge.cache.bundle import export, import_bundle
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.gc import Wanted, clean
from axforge.cache.key import canonical
from axforge.cache.lineage import lineage
from axforge.cache.record import parse
from axforge.cache.store import Store
from axforge.cache.verify import verify

TREE = {"inputs": {"t": tree_of({"a": b"1", "b": b"2"})}}
MAGIC = b"axforge cache bundle 1\n"


def bundled(base: Path, source: bytes = b"model") -> Path:
    """A bundle of one record, from a cache of its own."""
    store, _ = make_store(base / "there")
    build(store, source, base / "made", label="m", changes=TREE)
    export(store, lineage(store, ["m"]), base / "m.bundle")
    return base / "m.bundle"


def test_a_bundle_is_complete_and_the_same_each_time(tmp_path: Path) -> None:
    file = bundled(tmp_path)
    store, said = make_store(tmp_path / "here")
    assert import_bundle(store, file, dry_run=True)["new"] == 1
    assert stored_files(tmp_path / "here", "cas") == []
    report = import_bundle(store, file)
    assert (report["records"], report["new"], report["models"]) == (1, 1, ["m"])
    runs: list[bytes] = []
    done = build(store, b"model", tmp_path / "dest", runs, changes=TREE)
    assert (done.how, runs, said) == ("restored", [], [])
    assert is_right(tmp_path / "dest", b"model")
    assert done.record.provenance["from"] == "bundle m.bundle"
    assert store.blobs.read(done.record.manifests["t"]), "what explains comes along"
    assert verify(store).sound
    assert import_bundle(store, file)["new"] == 0
    first = file.read_bytes()
    there, _ = make_store(tmp_path / "there")
    export(there, lineage(there, ["m"]), file)
    assert file.read_bytes() == first


def test_what_made_the_inputs_comes_along(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "there")
    first = build(store, b"source", tmp_path / "d", label="other", changes={"stage": "check"}).record
    inputs = {"inputs": {"checked": first.output("big.bin").sha256}}
    last = build(store, b"second", tmp_path / "d", label="m", scope="/ws", changes=inputs).record
    build(store, b"third", tmp_path / "d", label="m", changes={"stage": "pack"})
    assert set(lineage(store, ["m"])) == {first.key, last.key}, "the last builds, not everything of that name"
    assert set(lineage(store, [last.key[:8]])) == {first.key, last.key}
    with pytest.raises(CacheError, match="no model and no single record"):
        lineage(store, ["nobody"])


def test_a_damaged_content_here_is_replaced_and_a_sound_record_stays(tmp_path: Path) -> None:
    file = bundled(tmp_path)
    store, _ = make_store(tmp_path / "here")
    mine = build(store, b"model", tmp_path / "d", label="mine", changes=TREE).record
    import_bundle(store, file)
    assert store.record(mine.key) == mine
    blob = store.layout.blob(mine.output("big.bin").sha256)
    blob.chmod(0o644)
    blob.write_bytes(bytes(BIG))
    assert import_bundle(store, file)["new"] == 1
    assert verify(store).sound


def test_exporting_a_damaged_content_leaves_no_file(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "there")
    record = build(store, b"model", tmp_path / "d", label="m").record
    blob = store.layout.blob(record.output("big.bin").sha256)
    blob.chmod(0o644)
    blob.write_bytes(bytes(BIG))
    with pytest.raises(CacheError, match="was damaged"):
        export(store, {record.key: record}, tmp_path / "x.bundle")
    with pytest.raises(CacheError, match="cannot be written"):
        export(store, {}, tmp_path / "absent" / "x.bundle")
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == []


# --- hostile -------------------------------------------------------------------------------------------------------------------


def forged(contents: list[bytes], change: Callable[[dict[str, Any]], object] = lambda index: None, tail: bytes = b"") -> bytes:
    """A bundle of these contents, the first of which is a record, with a sound checksum and an index that `change` has changed."""
    key = json.loads(contents[0].partition(b"\n")[2])["key"]
    listed = [[sha256(data), len(data)] for data in contents]
    index = {"v": 1, "records": [[key, sha256(contents[0])]], "contents": listed}
    change(index)
    text = canonical(index)
    return MAGIC + b"".join(contents) + tail + text + b"%016x %s\n" % (len(text), sha256(text).encode())


def parts(tmp_path: Path) -> list[bytes]:
    """A record and its contents."""
    store, _ = make_store(tmp_path / "there")
    record = build(store, b"model", tmp_path / "made", label="m").record
    return [record.to_bytes(), *(store.layout.blob(blob.sha256).read_bytes() for blob in record.blobs())]


def rewritten(record: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A record with its own checksum, changed."""
    data = json.loads(record.partition(b"\n")[2])
    change(data)
    text = canonical(data)
    return sha256(text).encode() + b"\n" + text + b"\n"


def put(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda index: index.__setitem__(name, value)


def test_the_forger_forges_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(forged(parts(tmp_path)))
    assert import_bundle(make_store(tmp_path / "here")[0], tmp_path / "f")["new"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("v", 2), "has another version"),
        (put("contents", []), "do not come to its own"),
        (lambda index: index["contents"].append(["0" * 64, 1 << 39]), "do not come to its own"),
        (lambda index: index["contents"].append(["0" * 64, 1 << 99]), "not a content"),
        (lambda index: index["contents"].append(["0" * 64, -1]), "not a content"),
        (lambda index: index["contents"].append(["0" * 64, True]), "not a content"),
        (lambda index: index["contents"].append(["../../../etc/cron.d/x", 0]), "not a content"),
        (lambda index: index["contents"].append(index["contents"][0]), "not a content"),
        (lambda index: index["records"].append(index["records"][0]), "not a record"),
        (lambda index: index["records"].append(["../" * 21 + "x", index["records"][0][1]]), "not a record"),
        (lambda index: index["records"].append(["0" * 64, index["records"][0][1]]), "belongs to another action"),
        (lambda index: index["records"].append(["0" * 64, "1" * 64]), "not a record"),
        (lambda index: index["contents"].append(["0" * 64, 0]), "no record refers to"),
        (put("records", {}), "no record refers to"),
        (put("records", 3), "bundle"),
        (put("contents", None), "bundle"),
    ],
)
def test_a_forged_index_is_refused_before_anything_is_kept(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    refused(tmp_path, forged(parts(tmp_path), change), words)


def _outside(folder: Path) -> list[Path]:
    """All files below a folder that are not in the cache `here`."""
    return [path for path in sorted(folder.rglob("*")) if folder / "here" not in (path, *path.parents)]


def refused(tmp_path: Path, data: bytes, words: str) -> None:
    """Import refuses these bytes, and nothing of them is kept anywhere."""
    (tmp_path / "f").write_bytes(data)
    before = _outside(tmp_path)
    store, said = make_store(tmp_path / "here")
    with pytest.raises(CacheError, match=words):
        import_bundle(store, tmp_path / "f")
    assert [file for below in ("ac", "cas", "tmp") for file in stored_files(tmp_path / "here", below)] == []
    assert _outside(tmp_path) == before
    assert said == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".hidden", "a\\b", "C:x", "x\n"])
def test_a_record_that_names_a_path_is_refused(tmp_path: Path, name: str) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["outputs"][0]["name"] = name
        data["action"]["outputs"] = sorted(output["name"] for output in data["outputs"])
        data["key"] = sha256(b"axforge action 1\n" + canonical(data["action"]))

    record, *contents = parts(tmp_path)
    refused(tmp_path, forged([rewritten(record, rename), *contents]), "malformed")


def test_a_record_that_is_nested_deeply_is_refused(tmp_path: Path) -> None:
    """Depths below and above what json and Python's recursion bear."""
    for depth in (40, 60, 300, 450, 900, 5000):
        config = '{"a":' * depth + "1" + "}" * depth
        text = f'{{"action":{{"config":{config},"inputs":{{}},"libraries":{{}},"outputs":["x"],"sdk":"","stage":"s","stage_version":1}},'
        text += f'"key":"{"0" * 64}","log":null,"manifests":{{}},"outputs":[],"provenance":{{}},"v":1}}'
        with pytest.raises(CacheError, match="malformed" if depth > 50 else "another action"):
            parse(sha256(text.encode()).encode() + b"\n" + text.encode() + b"\n", "0" * 64)


def test_nothing_of_a_bundle_commands_the_terminal(tmp_path: Path) -> None:
    def evil(data: dict[str, Any]) -> None:
        data["action"]["stage"] = "\x1b[2J"
        data["key"] = sha256(b"axforge action 1\n" + canonical(data["action"]))

    refused(tmp_path, forged([rewritten(parts(tmp_path)[0], evil)]), r"a content of \?\[2J is not in it")


def test_a_record_with_other_sizes_or_without_its_content_is_refused(tmp_path: Path) -> None:
    record, *contents = parts(tmp_path)
    refused(tmp_path, forged([rewritten(record, lambda d: d["outputs"][0].update(size=5)), *contents]), "the size that its record says")
    refused(tmp_path, forged([record]), "is not in it")
    refused(tmp_path, forged([record, *contents, b"stowaway"]), "no record refers to")


def test_other_bytes_behind_a_sound_index_are_not_kept(tmp_path: Path) -> None:
    record, big, *rest = parts(tmp_path)
    good = forged([record, big, *rest])
    data = good.replace(big, big[:-1] + bytes([big[-1] ^ 1]))
    refused(tmp_path, data, "not those that its name says")
    weak = rewritten(record, lambda d: d["outputs"][0].update(xxh3="0" * 32))
    refused(tmp_path, forged([weak, big, *rest]), "not those that its name says")


def test_every_truncation_and_a_thousand_flipped_bits_are_refused(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "there")
    record = build(store, b"model", tmp_path / "made").record
    small = [record.to_bytes(), *(store.layout.blob(blob.sha256).read_bytes() for blob in record.blobs())]
    whole = forged(small)
    here, _ = make_store(tmp_path / "here")
    positions = [*range(0, 600), *range(len(whole) - 500, len(whole))]
    for at in positions:
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
            (tmp_path / "f").write_bytes(data[:200_000] if at < 600 and len(data) == at else data)
            with pytest.raises(CacheError):
                import_bundle(here, tmp_path / "f")
    assert stored_files(tmp_path / "here", "ac") == []


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../evil", bytes(1 << 20))
    store, _ = make_store(tmp_path / "here")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("z.zip", "not a bundle"),
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
        ("absent", "cannot be read"),
    ):
        with pytest.raises(CacheError, match=words):
            import_bundle(store, tmp_path / name)
    refused(tmp_path, MAGIC + b"[" * 100_000 + b"%016x %s\n" % (100_000, sha256(b"[" * 100_000).encode()), "not a bundle")
    refused(tmp_path, MAGIC + b"%016x %s\n" % (1 << 60, b"0" * 64), "index does not fit")


def test_a_bundle_for_which_there_is_no_room_is_refused(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "here", size_limit=1000)
    with pytest.raises(CacheError, match=r"holds 1.5 MB, and the cache keeps 1.0 kB"):
        import_bundle(store, bundled(tmp_path))
    assert stored_files(tmp_path / "here", "cas") == []


@pytest.mark.skipif(not possible(), reason="needs to trace a child process (x86-64 Linux)")
def test_killed_before_each_system_call_that_writes(tmp_path: Path) -> None:
    file = bundled(tmp_path)
    number, finished = 0, False
    while not finished:
        number += 1
        trial = tmp_path / "trial"

        def work(trial: Path = trial) -> None:
            import_bundle(Store(trial, warn=lambda sentence: None), file)

        _, finished = run_killed(work, number)
        store, said = make_store(trial)
        assert not verify(store).damaged
        import_bundle(store, file)
        assert build(store, b"model", tmp_path / "dest", changes=TREE).how == "restored"
        assert is_right(tmp_path / "dest", b"model")
        assert verify(store).sound
        store.close()
        clean(store, Wanted(unreachable=True))
        assert (stored_files(trial, "tmp"), said) == ([], [])
        shutil.rmtree(trial)
    assert number > 30


def test_outputs_are_what_the_stage_gives() -> None:
    assert set(outputs_for(b"model")) == {"big.bin", "small.json"}, "the tests above name them"
