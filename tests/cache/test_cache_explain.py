"""Why a stage runs: each kind of change, in words and as data, against the last build and against the nearest record."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cache_support import build, make_action, make_store, tree_of

from axforge.cache import inspect
from axforge.cache.digest import sha256
from axforge.cache.errors import CacheError
from axforge.cache.explain import by_name, compare, why
from axforge.cache.gc import Wanted, clean
from axforge.cache.key import Action, key_of
from axforge.cache.record import Blob, parse

IMAGES = {f"img_{i:04}.jpg": b"%d" % i for i in range(50)}


def explained(tmp_path: Path, before: dict[str, Any], after: dict[str, Any], **options: Any) -> list[str]:
    """Lines of changes after a build with `before` when the action is `after`."""
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "d", label="m", scope="/ws", changes=before)
    found = why(store, make_action(b"model", store, **after), label="m", scope="/ws", **options)
    assert [change.to_json()["line"] for change in found.against_last] == [change.line() for change in found.against_last]
    return [change.line() for change in found.against_last]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"config": {"scheme": "minmax"}}, {"config": {"scheme": "mse"}}, ["quantize.scheme: minmax → mse"]),
        ({"config": {"a": {"b": 1, "c": True}}}, {"config": {"a": {"b": 1.5, "c": True}}}, ["quantize.a.b: 1 → 1.5"]),
        ({"config": {"a": 1}}, {"config": {}}, ["quantize: new ({})", "quantize.a: gone (was 1)"]),
        ({"config": {"x": ["a"]}}, {"config": {"x": ["a", "b"]}}, ['quantize.x: ["a"] → ["a", "b"]']),
        ({"stage_version": 1}, {"stage_version": 2}, ["stage quantize: quantize version 1 → quantize version 2"]),
        ({"sdk": "axforge 0.1"}, {"sdk": "axforge 0.2"}, ["SDK: axforge 0.1 → axforge 0.2"]),
        ({"libraries": {"numpy": "2.0"}}, {"libraries": {"numpy": "2.1", "onnx": "1.18"}}, ["numpy: 2.0 → 2.1", "onnx: new (1.18)"]),
        ({}, {"inputs": {"x": "ab" * 32}}, ["x: new (abababababab…)"]),
        ({"inputs": {"x": "ab" * 32}}, {"inputs": {"x": "cd" * 32}}, ["x: abababababab… → cdcdcdcdcdcd…"]),
        ({}, {}, []),
    ],
)
def test_each_kind_of_change(tmp_path: Path, before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    found = explained(tmp_path, before, after)
    assert [line for line in found if not line.startswith("quantize: new")] == [x for x in lines if not x.startswith("quantize: new")]


def test_images_added_and_changed_are_counted_and_named(tmp_path: Path) -> None:
    more = {**IMAGES, "img_0042.jpg": b"changed", **{f"new_{i}.jpg": b"new %d" % i for i in range(3)}}
    lines = explained(
        tmp_path,
        {"inputs": {"calibration": tree_of(IMAGES)}},
        {"inputs": {"calibration": tree_of(more)}},
        nouns={"calibration": "image"},
    )
    assert lines == ["calibration: 3 images added (new_0.jpg, new_1.jpg, new_2.jpg), 1 changed (img_0042.jpg)"]


def test_images_removed(tmp_path: Path) -> None:
    fewer = {name: data for name, data in IMAGES.items() if name < "img_0045"}
    lines = explained(tmp_path, {"inputs": {"calibration": tree_of(IMAGES)}}, {"inputs": {"calibration": tree_of(fewer)}})
    assert lines == ["calibration: 5 files removed (img_0045.jpg, img_0046.jpg, img_0047.jpg, …)"]


def test_a_renamed_file_is_neither_added_nor_removed(tmp_path: Path) -> None:
    renamed = {("other.jpg" if name == "img_0001.jpg" else name): data for name, data in IMAGES.items()}
    before, after = tree_of(IMAGES, names_matter=True), tree_of(renamed, names_matter=True)
    assert explained(tmp_path, {"inputs": {"t": before}}, {"inputs": {"t": after}}) == ["t: 1 file renamed (other.jpg)"]


def test_without_the_old_list_of_files_the_counts_are_told(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "d", label="m", scope="/ws", changes={"inputs": {"t": tree_of({"a": b"1"})}})
    store.close()
    clean(store, Wanted(all=True))
    found = why(store, make_action(b"model", store, inputs={"t": tree_of({"a": b"1", "b": b"2"})}), label="m", scope="/ws")
    assert found.against_last[0].line().endswith("… (2 files)")


def test_states_in_words(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    action = make_action(b"model", store)
    assert why(store, action, label="m", scope="/ws").lines() == ["quantize: must run; it was not built here before"]
    build(store, b"model", tmp_path / "d", label="m", scope="/ws")
    assert why(store, action, label="m", scope="/ws").lines() == [
        "quantize: its result is in the cache; nothing changed since the last build"
    ]
    store.close()
    clean(store, Wanted(all=True))
    assert why(store, action, label="m", scope="/ws").lines() == [
        "quantize: must run; nothing changed since the last build, but its result is no longer in the cache"
    ]


def test_the_nearest_record_has_the_fewest_differences(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    build(store, b"model", tmp_path / "d", label="far", changes={"sdk": "0", "config": {"scheme": "minmax"}})
    build(store, b"model", tmp_path / "d", label="near", changes={"config": {"scheme": "minmax", "percentile": 99.999}})
    build(store, b"model", tmp_path / "d", label="else", changes={"stage": "other"})
    found = why(store, make_action(b"model", store), label="m", scope="/ws")
    assert found.nearest is not None
    assert found.nearest.label == "near"
    assert [change.line() for change in found.against_nearest] == ["quantize.scheme: minmax → mse"]
    assert "nearest in the cache (near" in found.lines()[1]
    assert found.to_json()["against_nearest"][0]["before"] == "minmax"


def test_two_stored_records_by_their_keys(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "c")
    one = build(store, b"model", tmp_path / "d", label="m").record
    two = build(store, b"model", tmp_path / "d", label="m", changes={"sdk": "axforge 0.2.0"}).record
    (found,) = by_name(store, one.key[:8], two.key[:8])
    assert [change.line() for change in found.changes] == ["SDK: axforge 0.1.0 → axforge 0.2.0"]
    (latest,) = by_name(store, "m")
    assert latest.after.key == two.key


def test_equal_actions_do_not_differ_and_any_other_pair_does() -> None:
    base = Action("s", 1, {"a": "ab" * 32}, {"v": 1}, ("o",)).as_json()
    assert compare(base, base) == ()
    for value in (1.0, True, "1", None, [1], {"x": 1}):
        other = Action("s", 1, {"a": "ab" * 32}, {"v": value}, ("o",)).as_json()
        assert compare(base, other) != (), value


@pytest.mark.parametrize("data", [b"3", b"[]", b"{}", b'{"items": 3}', b'{"names_matter": 1, "items": [3]}', b"[" * 9999, b"\xff"])
def test_a_list_of_files_that_is_none_explains_nothing_and_breaks_nothing(tmp_path: Path, data: bytes) -> None:
    """Whoever may write records may write anything there, and a build looks at the nearest record when it explains."""
    store, said = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "d", label="m", changes={"inputs": {"t": tree_of({"a": b"1"})}}).record
    store.blobs.keep_bytes(sha256(data), data)
    store.write_record(replace(record, manifests={"t": Blob(sha256(data), len(data))}))
    other = make_action(b"model", store, inputs={"t": tree_of({"a": b"2"})})
    assert [change.name for change in why(store, other).against_nearest] == ["t"]
    assert inspect.look(store, record.key)
    assert said == []


def test_an_action_of_another_shape_is_damage(tmp_path: Path) -> None:
    """Sound in its own checksum and its own key; but reports could not show it."""
    store, _ = make_store(tmp_path / "c")
    record = build(store, b"model", tmp_path / "d", label="m").record
    for part, value in (
        ("inputs", {"t": {"tree": "0" * 64}}),
        ("libraries", {"numpy": 2}),
        ("inputs", {"t": {"tree": "0" * 64, "count": "x"}}),
    ):
        action = {**record.action, part: value}
        forged = replace(record, action=action, key=key_of(action))  # type: ignore[arg-type]
        with pytest.raises(CacheError, match="malformed"):
            parse(forged.to_bytes(), forged.key)
