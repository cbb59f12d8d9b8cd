"""Keys: the same for the same action on every machine, another for any change of what decides its bytes."""

import json
import os
import subprocess
import sys

import pytest
from cache_support import tree_of
from hypothesis import given
from hypothesis import strategies as st

from axforge.cache.errors import CacheError
from axforge.cache.key import Action, Tree, canonical, is_output_name, key_of

BASE = Action(
    stage="quantize",
    stage_version=3,
    inputs={"checked.onnx": "ab" * 32, "calibration": Tree((("a.jpg", "01" * 32), ("b.jpg", "02" * 32)))},
    config={"scheme": "mse", "percentile": 99.999, "exclude": ("Conv_0",), "größe": None},
    outputs=("quantized.onnx",),
    sdk="axforge 0.1.0",
    libraries={"onnx": "1.18.0", "numpy": "2.4.0"},
)


def changed(**fields: object) -> Action:
    return Action(**{**BASE.__dict__, **fields})  # type: ignore[arg-type]


def test_golden_key() -> None:
    """If this fails, every cache in the world is worthless: bump the tag of the document instead of changing what it means."""
    assert BASE.document() == (
        b"axforge action 1\n"
        b'{"config":{"exclude":["Conv_0"],"gr\xc3\xb6\xc3\x9fe":null,"percentile":99.999,"scheme":"mse"},'
        b'"inputs":{"calibration":{"count":2,"tree":"6a80dd028cf20105d8e09b324a39cb406b2a81c0f080d041d66e101f0b1735b6"},'
        b'"checked.onnx":{"sha256":"abababababababababababababababababababababababababababababababab"}},'
        b'"libraries":{"numpy":"2.4.0","onnx":"1.18.0"},"outputs":["quantized.onnx"],'
        b'"sdk":"axforge 0.1.0","stage":"quantize","stage_version":3}'
    )
    assert BASE.key() == "abb40b075c9c57bce857dc34931e8ea3787629cec25272766a8dae3cfa2befde"


@pytest.mark.parametrize(
    "fields",
    [
        {"stage": "optimize"},
        {"stage_version": 4},
        {"inputs": {**BASE.inputs, "checked.onnx": "ac" * 32}},
        {"inputs": {"checked.onnx": BASE.inputs["checked.onnx"]}},
        {"inputs": {"other.onnx": BASE.inputs["checked.onnx"], "calibration": BASE.inputs["calibration"]}},
        {"inputs": {**BASE.inputs, "calibration": Tree((("a.jpg", "01" * 32), ("b.jpg", "03" * 32)))}},
        {"inputs": {**BASE.inputs, "calibration": Tree((("a.jpg", "01" * 32), ("b.jpg", "01" * 32)))}},
        {"inputs": {**BASE.inputs, "calibration": "01" * 32}},
        {"config": {**BASE.config, "scheme": "minmax"}},
        {"config": {**BASE.config, "percentile": 99.9990000001}},
        {"config": {**BASE.config, "percentile": "99.999"}},
        {"config": {**BASE.config, "exclude": ("Conv_0", "Conv_1")}},
        {"config": {**BASE.config, "größe": 0}},
        {"config": {**BASE.config, "größe": False}},
        {"outputs": ("quantized.onnx", "table.json")},
        {"sdk": "axforge 0.1.1"},
        {"libraries": {**BASE.libraries, "numpy": "2.4.1"}},
        {"libraries": {"onnx": "1.18.0"}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_true_input_changes_the_key(fields: dict[str, object]) -> None:
    assert changed(**fields).key() != BASE.key()


def test_order_and_container_types_do_not_matter() -> None:
    config = dict(reversed(list(BASE.config.items()))) | {"exclude": ["Conv_0"]}
    inputs = dict(reversed(list(BASE.inputs.items())))
    assert changed(config=config, inputs=inputs, libraries={"numpy": "2.4.0", "onnx": "1.18.0"}).key() == BASE.key()


def test_renaming_files_of_a_tree_matters_only_if_said_so() -> None:
    before, after = {"a": b"1", "b": b"2"}, {"x": b"2", "y": b"1"}
    assert tree_of(before).digest() == tree_of(after).digest()
    assert tree_of(before, names_matter=True).digest() != tree_of(after, names_matter=True).digest()
    assert tree_of({"a": b"1", "b": b"1"}).digest() != tree_of({"a": b"1"}).digest()


@pytest.mark.parametrize("environment", [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Tokyo"}])
def test_another_process_with_other_surroundings_gives_the_same_key(environment: dict[str, str]) -> None:
    code = "import sys, json; from axforge.cache.key import key_of; print(key_of(json.load(sys.stdin)))"
    text = json.dumps(BASE.as_json(), sort_keys=False)
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == BASE.key()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {"a": {1, 2}}, b"bytes", object(), "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(CacheError):
        canonical({"value": value})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/etc", "C:x", ".hidden", "a\0b", "a\nb", "x" * 300, "a*"])
def test_output_names_that_could_leave_a_folder_are_refused(name: str) -> None:
    assert not is_output_name(name)
    with pytest.raises(CacheError):
        changed(outputs=(name,)).key()


def test_hashes_that_are_none_are_refused() -> None:
    for value in ("", "AB" * 32, "ab" * 31, "zz" * 32):
        with pytest.raises(CacheError):
            changed(inputs={"x": value}).key()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
plain = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12)


@given(plain)
def test_canonical_json_reads_back_as_the_same_value_and_form(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


@given(plain, plain)
def test_configurations_that_differ_have_keys_that_differ(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # tells 1, 1.0 and True apart
    assert (changed(config={"v": one}).key() == changed(config={"v": other}).key()) == same


def test_the_key_can_be_had_from_the_stored_document() -> None:
    assert key_of(json.loads(json.dumps(BASE.as_json()))) == BASE.key()
