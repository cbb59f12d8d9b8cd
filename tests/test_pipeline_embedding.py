"""Embeddings: vectors, galleries made of earlier results, and recall against a loop written out."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.evaluate.metrics import metric_for
from axforge.axruntime.media.opening import open_sink, open_source
from axforge.axruntime.media.source import Frame
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.pipeline.candidates import DecoderContext
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.descriptor import parse_descriptor
from axforge.axruntime.pipeline.postprocessing.embedding import Embed
from axforge.axruntime.results.embedding import Embedding, Gallery, Match, Retrieval
from axforge.axruntime.results.result import annotate

CONTEXT = DecoderContext(prepare((), np.zeros((8, 8, 3), np.uint8)))
PICTURE = fake_picture(64, 48, 0)


def cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def gallery_of(path: Path, known: dict[str, list[float]]) -> Path:
    """The JSON that a run over a folder of known pictures writes."""
    source = open_source("fakevideo:8x8", frames=1)
    with open_sink(path, source, {"model": "faces"}) as sink:
        for i, (name, vector) in enumerate(known.items()):
            sink.add(Frame(i, name, PICTURE), Embed(unit_length=False)({"o": np.float32([vector])}, CONTEXT))
    return path


def test_a_vector_is_matched_with_the_results_of_earlier_pictures(tmp_path: Path) -> None:
    known = {"alice.jpg": [1.0, 2, 3], "bob.png": [3.0, -1, 0], "carol.jpg": [0.0, 0, 0]}
    path = gallery_of(tmp_path / "known.json", known)
    found = Embed(gallery=str(path), k=2)({"o": np.float32([[[[2]], [[1]], [[1]]]])}, CONTEXT)
    expected = sorted(((cosine([2, 1, 1], v), name.split(".")[0]) for name, v in known.items()), reverse=True)[:2]
    assert [match.label for match in found.matches] == [name for _, name in expected]
    assert [match.similarity for match in found.matches] == pytest.approx([value for value, _ in expected])
    assert np.linalg.norm(found.vector) == pytest.approx(1.0)


@given(seed=st.integers(0, 10_000), count=st.integers(2, 14), classes=st.integers(1, 5))
def test_recall_is_that_of_the_written_out_loop(seed: int, count: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, truths = rng.normal(size=(count, 4)), rng.integers(0, classes, count).tolist()
    whole, first, second = Retrieval(), Retrieval(), Retrieval()
    for i, (vector, truth) in enumerate(zip(vectors, truths, strict=True)):
        for metric in (whole, first if i < count // 2 else second):
            metric.add(Embedding(vector), truth, PICTURE)
    first.merge(second)
    hits, judged = {1: 0, 5: 0}, 0
    for i in range(count):
        if truths.count(truths[i]) < 2:
            continue
        judged += 1
        others = sorted((j for j in range(count) if j != i), key=lambda j: -cosine(vectors[i].tolist(), vectors[j].tolist()))
        for k in hits:
            hits[k] += any(truths[j] == truths[i] for j in others[:k])
    expected = {f"recall@{k}": 100 * n / max(judged, 1) for k, n in hits.items()}
    assert whole.values() == first.values() == pytest.approx(expected)


def test_a_dataset_of_classes_judges_it_and_one_of_boxes_does_not() -> None:
    assert isinstance(metric_for(Embedding, "class"), Retrieval)
    with pytest.raises(AxforgeError, match="knows the boxes of each sample, and the pipeline gives embedding"):
        metric_for(Embedding, "boxes")


def test_it_says_how_it_is_written_printed_and_drawn() -> None:
    plain, matched = Embedding(np.array([0.6, 0.8])), Embedding(np.array([0.6, 0.8]), (Match("alice", 0.75), Match("bob", 0.5)))
    assert json.loads(json.dumps(matched.as_json())) == {
        "type": "embedding",
        "vector": [0.6, 0.8],
        "matches": [{"label": "alice", "similarity": 0.75}, {"label": "bob", "similarity": 0.5}],
    }
    assert (plain.table().head(), plain.table().texts()) == (["numbers", "length"], [["2", "1.0000"]])
    assert matched.table().texts() == [["alice", "0.7500"], ["bob", "0.5000"]]
    assert (plain.brief(), list(plain.seen())) == ("2 numbers", [])
    assert (matched.brief(), list(matched.seen())) == ("alice 0.750", ["alice"])
    assert np.array_equal(annotate(PICTURE, plain), PICTURE)
    assert annotate(PICTURE, matched).shape[0] > PICTURE.shape[0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (b"{", "not a JSON of embeddings"),
        (b'{"frames": [{"source": "a.jpg", "result": {"type": "detections"}}]}', "not a JSON of embeddings"),
        (b'{"frames": [{"source": "a", "result": {"vector": [1, 2]}}, {"source": "b", "result": {"vector": [1]}}]}', "of one length"),
        (b'{"frames": []}', "no embedding"),
        (b'{"frames": [{"source": "a", "result": {"vector": [1, null]}}]}', "not finite"),
        (b'{"frames": [{"source": "a", "result": {"vector": [1, 2]}}]}', "vectors of 2 numbers, and the network gives 3"),
    ],
)
def test_a_gallery_that_does_not_fit_is_answered_with_a_sentence(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "known.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AxforgeError, match=what) as caught:
        Embed(gallery=str(path))({"o": np.ones((1, 3), np.float32)}, CONTEXT)
    assert caught.value.fix


def test_what_is_not_a_vector_is_refused() -> None:
    with pytest.raises(AxforgeError, match=r"has shape \[2, 3\], and the step takes \[1, n\]"):
        Embed()({"o": np.zeros((2, 3))}, CONTEXT)


def test_model_json_may_call_it_a_task() -> None:
    document: dict[str, Any] = {"name": "n", "task": "embedding", "preprocessing": [], "postprocessing": [{"type": "embedding", "k": 3}]}
    assert parse_descriptor(json.dumps(document).encode(), "m").postprocessing == (Embed(k=3),)
    assert Gallery(("a",), np.ones((1, 1))).names == ("a",)
