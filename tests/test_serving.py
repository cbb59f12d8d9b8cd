# ruff: noqa: E402  starlette may be absent
"""The service: the protocol with JSON and binary tensors, pictures, batches, limits, and what clients do wrong."""

import asyncio
import base64
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_models import CLASSIFIER, DETECTOR, classifier, detector, photo, publish
from PIL import Image

for package in ("starlette", "uvicorn", "prometheus_client", "httpx2"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

import httpx2
import uvicorn
from starlette.testclient import TestClient

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array
from axforge.axruntime.model import Model
from axforge.axruntime.serving.app import application
from axforge.axruntime.serving.batching import Batcher, Waiting
from axforge.axruntime.serving.limits import Refused, ServingLimits
from axforge.axruntime.serving.metrics import ServingMetrics
from axforge.axruntime.serving.protocol import JSON_LENGTH
from axforge.axruntime.serving.server import ServingOptions, serve

LIMITS = ServingLimits(request_bytes=200_000, pixels=10_000, seconds=20, waiting=6)
PICTURES, TENSORS = "/v2/models/finder-pipeline", "/v2/models/finder"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(publish(detector(), DETECTOR, tmp_path_factory.mktemp("served") / "finder" / "1"), threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[TestClient]:
    with TestClient(application(model, LIMITS), raise_server_exceptions=False) as opened:
        yield opened


def png(picture: Array | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo() if picture is None else picture).save(buffer, "PNG")
    return buffer.getvalue()


def tensor(name: str = "x", shape: tuple[int, ...] = (1, 3, 16, 16), datatype: str = "FP32", **more: object) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, **more}


def binary(head: Mapping[str, object], *tails: bytes) -> dict[str, Any]:
    """Arguments of a post with the binary extension."""
    text = json.dumps(head).encode()
    return {"content": b"".join([text, *tails]), "headers": {JSON_LENGTH: str(len(text))}}


def image_of(data: bytes) -> dict[str, Any]:
    piece = struct.pack("<I", len(data)) + data
    return binary({"inputs": [tensor("image", (1,), "BYTES", parameters={"binary_data_size": len(piece)})]}, piece)


def feeds(seed: int, frames: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (frames, 3, 16, 16)).astype(np.float32)


def outputs_of(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def test_health_and_metadata(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    about = client.get("/v2").json()
    assert about["models"] == ["finder-pipeline", "finder"]
    assert "binary_tensor_data" in about["extensions"]
    said = client.get(TENSORS).json()
    assert said["inputs"] == [tensor("x", (-1, 3, 16, 16))] or said["inputs"][0]["shape"] == [-1, 3, 16, 16]
    pipeline = client.get(f"{PICTURES}/versions/1").json()
    assert pipeline["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [1]}]
    assert [output["name"] for output in pipeline["outputs"]] == ["result", "boxes", "scores", "class_ids", "labels"]
    assert client.get(f"{TENSORS}/versions/1/ready").json()["ready"] is True


def test_tensors_in_json_give_what_the_model_gives(client: TestClient, model: Model) -> None:
    x = feeds(1)
    found = outputs_of(client.post(f"{TENSORS}/infer", json={"id": "7", "inputs": [tensor(data=x.tolist())]}))
    wanted = model.run({"x": x})["y"]
    assert found["y"]["shape"] == list(wanted.shape)
    assert np.array_equal(np.array(found["y"]["data"], np.float32).reshape(wanted.shape), wanted)


def test_binary_tensors_in_and_out(client: TestClient, model: Model) -> None:
    x = feeds(2, frames=3)
    head = {"parameters": {"binary_data_output": True}, "inputs": [tensor(shape=x.shape, parameters={"binary_data_size": x.nbytes})]}
    response = client.post(f"{TENSORS}/infer", **binary(head, x.tobytes()))
    assert response.status_code == 200, response.text
    length = int(response.headers[JSON_LENGTH])
    document = json.loads(response.content[:length])
    got = np.frombuffer(response.content[length:], np.float32).reshape(document["outputs"][0]["shape"])
    assert np.array_equal(got, np.concatenate([model.run({"x": x[i : i + 1]})["y"] for i in range(3)]))
    assert document["outputs"][0]["parameters"]["binary_data_size"] == got.nbytes


def test_codes_are_taken_as_codes(client: TestClient, model: Model) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, 3, 16, 16)).astype(np.int8)
    found = outputs_of(client.post(f"{TENSORS}/infer", json={"inputs": [tensor(datatype="INT8", data=x.ravel().tolist())]}))
    assert np.array_equal(np.array(found["y"]["data"], np.float32), model.run({"x": x})["y"].ravel())


def test_a_picture_gives_the_models_result(client: TestClient, model: Model) -> None:
    wanted = model(photo())
    answers = [
        client.post(f"{PICTURES}/infer", **image_of(png())),
        client.post(f"{PICTURES}/infer", json={"inputs": [tensor("image", (1,), "BYTES", data=[base64.b64encode(png()).decode()])]}),
        client.post(f"{PICTURES}/infer", json={"inputs": [tensor("image", photo().shape, "UINT8", data=photo().ravel().tolist())]}),
    ]
    for answer in answers:
        found = outputs_of(answer)
        assert json.loads(found["result"]["data"][0]) == wanted.as_json()
        assert found["boxes"]["shape"] == list(wanted.columns()["boxes"].shape)
        assert found["boxes"]["data"] == wanted.columns()["boxes"].ravel().tolist()
        assert found["labels"]["data"] == list(wanted.columns()["labels"])
        assert {"decode_ms", "queue_ms", "inference_ms"} <= set(answer.json()["parameters"])


def test_a_classifier_is_served_too(tmp_path: Path) -> None:
    with Model(publish(classifier(), CLASSIFIER, tmp_path / "tiny" / "1")) as model, TestClient(application(model)) as client:
        found = outputs_of(client.post("/v2/models/tiny-pipeline/infer", **image_of(png())))
        assert found["labels"]["data"] == list(model(photo()).columns()["labels"])
        only = {"inputs": image_of(png())}  # a wrong body, and then one output alone
        assert client.post("/v2/models/tiny-pipeline/infer", content=str(only)).status_code == 400


def test_only_the_outputs_that_are_asked_for_come(client: TestClient) -> None:
    data = [base64.b64encode(png()).decode()]
    body = {"inputs": [tensor("image", (1,), "BYTES", data=data)], "outputs": [{"name": "scores"}]}
    assert list(outputs_of(client.post(f"{PICTURES}/infer", json=body))) == ["scores"]


X = feeds(0)
BAD_TENSORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no JSON": ({"content": b"\xff\x00"}, 400, "not JSON"),
    "nothing": ({"content": b""}, 400, "not JSON"),
    "deep": ({"content": b"[" * 100_000}, 400, "not JSON"),
    "no inputs": ({"json": {"inputs": []}}, 400, "Input 'x' is missing"),
    "unknown input": ({"json": {"inputs": [tensor("z", data=X.tolist())]}}, 400, "The model has no input 'z'"),
    "twice": ({"json": {"inputs": [tensor(data=X.tolist())] * 2}}, 400, "given twice"),
    "shape": ({"json": {"inputs": [tensor(shape=(1, 3, 2, 2), data=[0] * 12)]}}, 400, "the model takes [-1, 3, 16, 16]"),
    "too few": ({"json": {"inputs": [tensor(data=[0] * 12)]}}, 400, "12 values were sent"),
    "ragged": ({"json": {"inputs": [tensor(data=[[0], [0, 1]])]}}, 400, "cannot be read"),
    "words": ({"json": {"inputs": [tensor(data=["a"] * 768)]}}, 400, "cannot be read"),
    "null": ({"json": {"inputs": [tensor(data=None)]}}, 400, "cannot be read"),
    "no data": ({"json": {"inputs": [tensor()]}}, 400, "neither data nor"),
    "huge side": ({"json": {"inputs": [tensor(shape=(1, 2**62, 4, 4), data=[0])]}}, 400, "a shape that no tensor has"),
    "negative side": ({"json": {"inputs": [tensor(shape=(-1, -3, 16, 16), data=[0] * 768)]}}, 400, "a shape that no tensor has"),
    "empty": ({"json": {"inputs": [tensor(shape=(0, 3, 16, 16), data=[])]}}, 400, "a shape that no tensor has"),
    "datatype": ({"json": {"inputs": [tensor(datatype="FP8", data=[0])]}}, 400, "There are: BYTES"),
    "other datatype": ({"json": {"inputs": [tensor(datatype="INT64", data=[0] * 768)]}}, 400, "the model takes FP32"),
    "out of range": ({"json": {"inputs": [tensor(datatype="INT8", data=[300] * 768)]}}, 400, "values outside of -128 to 127"),
    "unknown output": ({"json": {"inputs": [tensor(data=X.tolist())], "outputs": [{"name": "q"}]}}, 400, "The model has no output 'q'"),
    "many frames": ({"json": {"inputs": [tensor(shape=(7, 3, 16, 16), data=[0] * 768 * 7)]}}, 400, "from 1 to 6"),
    "short tail": (binary({"inputs": [tensor(parameters={"binary_data_size": 3072})]}, b"123"), 400, "3 bytes are left"),
    "long tail": (binary({"inputs": [tensor(parameters={"binary_data_size": 3072})]}, X.tobytes(), b"1"), 400, "belong to no input"),
    "size": (binary({"inputs": [tensor(parameters={"binary_data_size": 4})]}, b"1234"), 400, "which is 3072 bytes"),
    "odd size": (binary({"inputs": [tensor(parameters={"binary_data_size": "x"})]}, b"1234"), 400, "binary_data_size x"),
    "header": ({"content": b"{}", "headers": {JSON_LENGTH: "99"}}, 400, "the body has 2 bytes"),
    "odd header": ({"content": b"{}", "headers": {JSON_LENGTH: "-1"}}, 400, "the body has 2 bytes"),
    "large": ({"content": b"0" * 200_001}, 413, "too large"),
    "large, in pieces": ({"content": iter([b"0" * 150_000] * 2)}, 413, "too large"),
    "compressed": ({"content": b"x", "headers": {"Content-Encoding": "gzip"}}, 415, "Compressed"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_bad_request_gets_a_sentence(client: TestClient, name: str) -> None:
    arguments, status, words = BAD_TENSORS[name]
    response = client.post(f"{TENSORS}/infer", **arguments)
    assert (response.status_code, words in response.json()["error"]) == (status, True), response.text


BAD_PICTURES: dict[str, tuple[dict[str, Any], int, str]] = {
    "no picture": (image_of(b"hello"), 400, "damaged or not a picture"),
    "cut short": (image_of(png()[:200]), 400, "damaged or not a picture"),
    "nothing": (image_of(b""), 400, "damaged or not a picture"),
    "many pixels": (image_of(png(np.zeros((101, 100, 3), np.uint8))), 413, "at most 10,000"),
    "many values": ({"json": {"inputs": [tensor("image", (200, 200), "UINT8", data=[0] * 40_000)]}}, 413, "at most 10,000"),
    "two": (binary({"inputs": [tensor("image", (2,), "BYTES", parameters={"binary_data_size": 8})]}, bytes(8)), 400, "one picture"),
    "length": (binary({"inputs": [tensor("image", (1,), "BYTES", parameters={"binary_data_size": 4})]}, b"\xff" * 4), 400, "longer than"),
    "count": (binary({"inputs": [tensor("image", (3,), "BYTES", parameters={"binary_data_size": 4})]}, bytes(4)), 400, "1 elements"),
    "floats": ({"json": {"inputs": [tensor("image", (2, 2, 3), "FP32", data=[0] * 12)]}}, 400, "one picture"),
    "channels": ({"json": {"inputs": [tensor("image", (3, 9, 9), "UINT8", data=[0] * 243)]}}, 400, "is not a picture"),
    "name": ({"json": {"inputs": [tensor("x", (1,), "BYTES", data=["a"])]}}, 400, "takes one input, 'image'"),
    "number": ({"json": {"inputs": [tensor("image", (1,), "BYTES", data=[1])]}}, 400, "BYTES in JSON are strings"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_gets_a_sentence(client: TestClient, name: str) -> None:
    arguments, status, words = BAD_PICTURES[name]
    response = client.post(f"{PICTURES}/infer", **arguments)
    assert (response.status_code, words in response.json()["error"]) == (status, True), response.text


def test_one_pixel_is_a_picture(client: TestClient) -> None:
    assert client.post(f"{PICTURES}/infer", **image_of(png(np.zeros((1, 1, 3), np.uint8)))).status_code == 200


def test_what_is_not_there_is_said(client: TestClient) -> None:
    for path, status, words in (
        ("/v2/models/other", 404, "There are: finder-pipeline, finder"),
        ("/v2/models/finder/versions/2", 404, "has version 1"),
        ("/nowhere", 404, "There is nothing at /nowhere"),
        (f"{TENSORS}/infer", 405, "GET is not answered here"),
    ):
        response = client.get(path)
        assert (response.status_code, words in response.json()["error"]) == (status, True), response.text


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post(f"{PICTURES}/infer", **image_of(png()))
    client.post(f"{PICTURES}/infer", content=b"")
    text = client.get("/metrics").text
    for line in ('requests_total{model="finder-pipeline",status="200"}', 'requests_total{model="finder-pipeline",status="400"}'):
        assert f"axforge_{line}" in text
    assert 'axforge_step_seconds_count{model="finder-pipeline",step="inference"}' in text
    assert "axforge_waiting_frames 0.0" in text


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "://" not in response.text.replace("https:// and localhost", "")


class Gate:
    """An engine that waits to be let through."""

    def __init__(self) -> None:
        self.open, self.taken = threading.Event(), threading.Semaphore(0)
        self.seen: list[float] = []
        self.alone: list[bool] = []

    def __call__(self, feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        self.alone.append(alone)
        self.taken.release()
        assert self.open.wait(20)
        self.seen.append(float(feeds["x"][0]))
        return {"y": feeds["x"] * 2}


def waiting(number: int, seconds: float = 20) -> Waiting:
    return Waiting({"x": np.array([float(number)])}, False, time.monotonic() + seconds)


def test_frames_take_turns_and_those_whose_client_has_gone_are_left_out() -> None:
    gate = Gate()
    batcher = Batcher(gate, LIMITS, ServingMetrics())
    first, others = waiting(0), [waiting(i) for i in range(1, 5)]
    batcher.add([first])
    assert gate.taken.acquire(timeout=20)
    for frame in others:
        batcher.add([frame])
    others[1].done.cancel()
    gate.open.set()
    batcher.close()
    assert gate.seen == [0, 1, 3, 4]
    assert others[3].done.result()["y"].tolist() == [8]
    with pytest.raises(Refused, match="stopping"):
        batcher.add([waiting(9)])


def test_frames_that_wait_together_are_run_side_by_side() -> None:
    gate, both, metrics = Gate(), threading.Barrier(2), ServingMetrics()

    def run(feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        if alone:
            both.wait(20)  # breaks if they come one after another
        return gate(feeds, raw=raw, alone=alone)

    batcher = Batcher(run, LIMITS, metrics, at_once=2)
    batcher.add([waiting(0)])
    assert gate.taken.acquire(timeout=20)
    batcher.add(others := [waiting(i) for i in range(1, 5)])
    assert not gate.taken.acquire(timeout=0.1)  # the first has all CPUs
    gate.open.set()
    batcher.close()
    assert [frame.done.result()["y"].tolist() for frame in others] == [[2], [4], [6], [8]]
    assert gate.alone == [False, True, True, True, True]
    assert 'axforge_frames_at_once_bucket{le="1.0"} 5.0' not in metrics.text().decode()


def test_a_full_queue_refuses_and_a_late_frame_is_dropped() -> None:
    gate = Gate()
    batcher = Batcher(gate, LIMITS, ServingMetrics())
    batcher.add([waiting(0)])
    assert gate.taken.acquire(timeout=20)
    late = waiting(1, seconds=0)
    batcher.add([late, *(waiting(i) for i in range(2, 7))])
    with pytest.raises(Refused, match="6 frames wait already") as refused:
        batcher.add([waiting(7)])
    assert refused.value.status == 429
    gate.open.set()
    batcher.close()
    with pytest.raises(Refused, match="waited for the engine") as dropped:
        late.done.result()
    assert dropped.value.status == 503
    assert gate.seen == [0, 2, 3, 4, 5, 6]


def test_an_engine_that_fails_fails_its_frame_only() -> None:
    def run(feeds: Mapping[str, Array], *, raw: bool = False, alone: bool = False) -> dict[str, Array]:
        if feeds["x"][0] == 1:
            raise AxforgeError("it does not fit")
        return dict(feeds)

    batcher = Batcher(run, LIMITS, ServingMetrics())
    frames = [waiting(i) for i in range(3)]
    batcher.add(frames)
    batcher.close()
    assert isinstance(frames[1].done.exception(), AxforgeError)
    assert [frame.done.result()["x"].tolist() for frame in (frames[0], frames[2])] == [[0], [2]]


def test_requests_at_once_are_all_answered_rightly(model: Model) -> None:
    limits = ServingLimits(waiting=64)
    pictures = [photo()[:, : 40 + i] for i in range(16)]
    with TestClient(application(model, limits)) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda picture: client.post(f"{PICTURES}/infer", **image_of(png(picture))), pictures))
    for picture, answer in zip(pictures, answers, strict=True):
        assert json.loads(outputs_of(answer)["result"]["data"][0]) == model(picture).as_json()


@pytest.mark.parametrize("ends", ["hangs up", "is slow", "waits too long"])
def test_a_client_that_goes_or_is_slow_costs_nothing(model: Model, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    gate = Gate()
    monkeypatch.setattr(model, "run", gate)
    app = application(model, ServingLimits(seconds=20 if ends == "hangs up" else 0.5))
    sent: list[Any] = []
    x = feeds(0)
    body = json.dumps({"inputs": [tensor(data=x.ravel().tolist())]}).encode()
    came = 0

    async def receive() -> dict[str, Any]:
        nonlocal came
        came += 1
        if came == 1 and ends != "is slow":
            return {"type": "http.request", "body": body, "more_body": False}
        if ends == "hangs up":
            await asyncio.to_thread(gate.taken.acquire)
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": f"{TENSORS}/infer", "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    gate.open.set()
    assert sent[0]["status"] == {"hangs up": 499, "is slow": 408, "waits too long": 503}[ends]


def test_tritons_client_speaks_with_it(model: Model) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    x = feeds(3, frames=2)
    with running(model) as port, triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_model_ready("finder-pipeline")
        assert client.get_model_metadata("finder")["inputs"][0]["name"] == "x"
        for binary_data in (True, False):
            given = triton.InferInput("x", list(x.shape), "FP32")
            given.set_data_from_numpy(x, binary_data=binary_data)
            wanted = None if binary_data else [triton.InferRequestedOutput("y", binary_data=False)]
            found = client.infer("finder", [given], outputs=wanted).as_numpy("y")
            assert np.array_equal(found, np.concatenate([model.run({"x": x[i : i + 1]})["y"] for i in range(2)]))
        picture = triton.InferInput("image", [1], "BYTES")
        picture.set_data_from_numpy(np.array([png()], object))
        answer = client.infer("finder-pipeline", [picture])
        assert json.loads(answer.as_numpy("result")[0]) == model(photo()).as_json()
        assert np.array_equal(answer.as_numpy("boxes"), model(photo()).boxes)
        assert [label.decode() for label in answer.as_numpy("labels")] == list(model(photo()).labels)
        with pytest.raises(triton.InferenceServerException, match="The model has no input 'z'"):
            client.infer("finder", [triton.InferInput("z", [1], "FP32").set_data_from_numpy(np.zeros(1, np.float32))])


@contextmanager
def running(model: Model) -> Iterator[int]:
    """The port of a server with real sockets."""
    server = uvicorn.Server(uvicorn.Config(application(model), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_what_it_has_taken(tmp_path: Path, number: signal.Signals) -> None:
    """The engine sleeps in each frame; the signal comes while one is in it, and its client gets the answer."""
    folder = publish(detector(), DETECTOR, tmp_path / "finder" / "1")
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        "from axforge.axruntime.model import Model\n"
        "from axforge.axruntime.serving.server import ServingOptions, serve\n"
        "model = Model(sys.argv[1], threads=1)\n"
        "run = model.run\n"
        "model.run = lambda feeds, **more: (print('in the engine', flush=True), time.sleep(1), run(feeds, **more))[2]\n"
        "serve(model, ServingOptions(port=0), sys.stdout)\n"
    )
    with subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split(" at ")[1].split()[0]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(httpx2.post, f"{address}{PICTURES}/infer", timeout=30, **image_of(png()))
            assert process.stdout.readline() == "in the engine\n"
            process.send_signal(number)
            assert answer.result().status_code == 200
        assert "every request that was taken has been answered" in process.stdout.read()
    assert process.returncode == 0


def test_a_port_that_is_taken_is_said(model: Model) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AxforgeError, match="cannot listen there: Address already in use"):
            serve(model, ServingOptions(port=port), io.StringIO())
