"""Whatever happens to stored files, a corrupt entry is never handed out, and the next build gives the right bytes and says why."""

import os
from pathlib import Path

import pytest
from cache_support import build, is_right, make_action, make_store, stored_files, tree_of

from axforge.cache.errors import Damaged
from axforge.cache.history import last
from axforge.cache.verify import verify


def damage(path: Path, how: str) -> None:
    """Change a stored file as a disk, a killed writer or a careless program would."""
    data = path.read_bytes()
    path.chmod(0o644)
    if how.startswith("flip"):
        position = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[how.split()[1]]
        changed = data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
    else:
        changed = {"empty": b"", "half": data[: len(data) // 2], "longer": data + b"\0", "zeros": bytes(len(data))}[how]
    with open(path, "wb") as stream:
        stream.write(changed)
    path.chmod(0o444)


HOWS = ["flip first", "flip middle", "flip last", "empty", "half", "longer", "zeros"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["ac", "cas", "big.bin", "index", "stats", "leases", "locks", "usage"])
def test_each_kind_of_stored_file(tmp_path: Path, kind: str, how: str) -> None:
    """Build, damage every file of one kind, build again elsewhere by a new process: right bytes, and again a sound cache."""
    options = {"size_limit": 10**9}
    store, _ = make_store(tmp_path / "c", **options)
    action = make_action(b"model", store, inputs={"t": tree_of({"a": b"1"})})
    record = build(store, b"model", tmp_path / "dest", scope="/ws", label="m", changes={"inputs": action.inputs}).record
    if kind == "big.bin":
        files = [store.layout.blob(record.output(kind).sha256)]
    elif kind == "usage":
        files = [tmp_path / "c" / "v1" / "usage"]
    else:
        files = stored_files(tmp_path / "c", kind)
    for path in files:
        if path.stat().st_size:
            damage(path, how)
    later, said = make_store(tmp_path / "c", **options)
    build(later, b"model", tmp_path / "again", scope="/ws", label="m", changes={"inputs": action.inputs})
    assert is_right(tmp_path / "again", b"model")
    if kind in ("ac", "cas", "big.bin"):
        assert said, "a sentence says what happened"
        assert all("damaged" in sentence or "gone" in sentence or "runs again" in sentence for sentence in said)
    else:
        assert said == []
    verified = verify(later)
    assert verified.sound or kind == "cas"  # lists and logs only explain: a hit does not read them, so they may still be damaged
    assert last(later, "/ws", "m", "quantize") is not None
    build(later, b"model", tmp_path / "third", changes={"inputs": action.inputs})
    assert is_right(tmp_path / "third", b"model")


def test_what_was_damaged_is_in_quarantine_with_a_reason(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    damage(store.layout.blob(record.output("big.bin").sha256), "flip middle")
    with pytest.raises(Damaged):
        store.restore(record, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
    kept = [path for path in stored_files(tmp_path / "c", "quarantine") if path.suffix != ".why"]
    assert len(kept) == 1
    assert "not what its name says" in (kept[0].parent / f"{kept[0].name}.why").read_text()
    assert len(said) == 1
    assert "set aside" in said[0]


def test_a_damaged_file_stops_the_whole_restore_before_anything_is_replaced(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "big.bin").write_bytes(b"of an earlier build")
    damage(store.layout.blob(record.output("small.json").sha256), "flip last")
    with pytest.raises(Damaged):
        store.restore(record, tmp_path / "other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == {"big.bin": b"of an earlier build"}


def test_a_record_whose_content_is_gone_is_a_miss_that_heals(tmp_path: Path) -> None:
    store, said = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    store.layout.blob(record.output("small.json").sha256).unlink()
    runs: list[bytes] = []
    build(store, b"model", tmp_path / "again", runs)
    assert runs == [b"model"]
    assert is_right(tmp_path / "again", b"model")
    assert any("gone from the cache" in sentence for sentence in said)
    assert store.lookup(make_action(b"model", store)) is not None


def test_a_record_copied_to_another_key_is_not_believed(tmp_path: Path) -> None:
    """A forged or misplaced record: the document inside must hash to the key that was asked for."""
    store, said = make_store(tmp_path / "c")
    build(store, b"one", tmp_path / "d1")
    build(store, b"two", tmp_path / "d2")
    one, two = (store.layout.record(make_action(source, store).key()) for source in (b"one", b"two"))
    two.unlink()
    os.link(one, two)
    build(store, b"two", tmp_path / "d3")
    assert is_right(tmp_path / "d3", b"two")
    assert "another action" in said[0]


def test_a_content_damaged_before_it_is_stored_again_is_replaced(tmp_path: Path) -> None:
    """Two actions give the same content; the stored one is bad when the second is kept: it must not stay bad."""
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    damage(store.layout.blob(record.output("big.bin").sha256), "flip middle")
    build(store, b"model", tmp_path / "d2", changes={"sdk": "axforge 0.2"})
    assert is_right(tmp_path / "d2", b"model")
    assert verify(store).sound


@pytest.mark.parametrize("name", ["../../escape", "/etc/x", ".hidden", "a/b"])
def test_a_record_that_names_a_path_is_refused(tmp_path: Path, name: str) -> None:
    """Even one with a valid checksum and key."""
    from dataclasses import replace

    from axforge.cache.key import key_of

    store, said = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest").record
    action = {**record.action, "outputs": [name]}
    forged = replace(record, key=key_of(action), action=action, outputs=(replace(record.outputs[0], name=name),))
    path = store.layout.record(forged.key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(forged.to_bytes())
    assert store.record(forged.key) is None
    assert "plain file name" in said[0]


def test_verify_finds_damage_and_says_what_will_be_rebuilt(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "dest", label="yolo").record
    build(store, b"other", tmp_path / "dest2", label="resnet")
    assert verify(store).sound
    name = record.output("big.bin").sha256
    damage(store.layout.blob(name), "flip first")
    found = verify(store)
    assert (found.damaged, [entry.record.label for entry in found.rebuilt]) == ([name], ["yolo"])
    assert not verify(store).damaged
    build(store, b"model", tmp_path / "dest")
    assert verify(store).sound
