"""The table of published networks: every row makes a sound model.json, or says why not; the facts are those of the tables at hand."""

import csv
import json
from pathlib import Path

import msgspec
import pytest

from axforge import ax_models
from axforge.ax_models.zoo import table
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.chain import kind_of_result
from axforge.axruntime.pipeline.descriptor import load_descriptor, parse_descriptor
from axforge.axruntime.pipeline.models import NAME
from axforge.axruntime.pipeline.step import BoxDecoder

LABELS = Path(ax_models.__file__).parent / "labels"


def test_names_are_those_of_models_and_there_once() -> None:
    names = [network.name for network in table.networks()]
    assert names == sorted(set(names), key=str.lower)
    assert all(NAME.fullmatch(name) for name in names)
    assert len(table.names()) > 100


@pytest.mark.parametrize("name", table.names())
def test_a_row_makes_a_sound_descriptor(name: str, tmp_path: Path) -> None:
    network = table.find(name)
    assert network is not None
    (tmp_path / "model.json").write_bytes(table.text(network))
    descriptor = load_descriptor(tmp_path / "model.json", [LABELS])
    assert descriptor.name == name
    assert (descriptor.source is not None) == network.downloads
    if descriptor.postprocessing:
        assert descriptor.task == kind_of_result(descriptor.postprocessing).task
    else:
        assert "not decoded" in network.reason
    for step in descriptor.postprocessing:
        if isinstance(step, BoxDecoder) and hasattr(step, "classes") and descriptor.label_names:
            assert len(descriptor.label_names) == step.classes
    assert descriptor.label_names or network.reason or descriptor.task == "embedding"
    size = [getattr(step, side) for step in descriptor.preprocessing if hasattr(step, "width") for side in ("width", "height")][-2:]
    assert size == [int(network.width), int(network.height)]


def test_every_row_without_a_descriptor_says_why() -> None:
    for network in table.networks():
        assert network.family in table.families() or (network.family == "" and network.reason)
        if not network.family:
            with pytest.raises(AxforgeError) as caught:
                table.text(network)
            assert network.reason in str(caught.value)


def test_every_family_is_of_some_network_and_is_written_as_the_schema_says() -> None:
    assert set(table.families()) == {network.family for network in table.networks()} - {""}


def test_what_cannot_be_downloaded_is_named_with_what_can() -> None:
    checkpoint, alone = table.find("yolov8l-coco"), table.find("yolov10n-coco-onnx")
    assert checkpoint is not None
    assert alone is not None
    assert checkpoint.obstacles() == [
        "The weights are a PyTorch checkpoint, which is not read; yolov8l-coco-onnx is the same network as ONNX."
    ]
    assert alone.obstacles() == ["No address of its weights is known; give it as ONNX: --onnx PATH."]
    assert all(network.obstacles() or network.downloads for network in table.networks())


def test_facts_are_those_of_the_published_tables(shared: Path) -> None:
    with (shared / "figures" / "zoo_sources.csv").open(newline="") as stream:
        sources = list(csv.DictReader(stream))
    for row in sources:
        network = table.find(row["network"])
        assert network is not None, row["network"]
        if network.family:
            assert (network.url, network.md5) == (row["weight_url"], row["weight_md5"])
            _, *lengths = json.loads(row["input"])
            assert sorted(lengths) == sorted([3, int(network.height), int(network.width)])
    with (shared / "figures" / "voyager_zoo_dev.csv").open(newline="") as stream:
        published = [(row[key], row) for row in csv.DictReader(stream) for key in ("torch_id", "onnx_id") if row[key]]
    for name, row in published:
        network = table.find(name)
        assert network is not None, name
        if network.family:
            figures = (network.accuracy, network.int8_loss, network.fps, network.license)
            assert figures == (row["fp32_accuracy"], row["accuracy_loss"], row["fps"], row["license"])


def test_a_hostile_row_is_refused_by_the_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    network = table.find("yolov8s-coco-onnx")
    assert network is not None
    for field, value in (("url", "file:///etc/passwd.onnx"), ("md5", "../../x"), ("name", "../up")):
        changed = table.PublishedNetwork(**{**vars(network), field: value})
        with pytest.raises(AxforgeError):
            parse_descriptor(msgspec.json.encode(table.document(changed)), "x")
