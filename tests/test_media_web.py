"""Pictures and videos from a server on this machine."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media import web
from axforge.axruntime.media.images import write_image
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.media.video_writer import VideoWriter

PICTURE = fake_picture(32, 24, 1)


class Handler(BaseHTTPRequestHandler):
    """Answers by the path: (status, content type, body, announced length)."""

    answers: ClassVar[dict[str, tuple[int, str, bytes, int | None]]] = {}

    def do_GET(self) -> None:
        if self.path == "/silent.jpg":
            time.sleep(1)
            return
        if self.path.startswith("/secret") and self.headers.get("Authorization") != "Basic dXNlcjpwQHNz":
            self.send_error(401)
            return
        status, kind, body, length = self.answers.get(self.path, (404, "text/html", b"", 0))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    write_image(tmp_path / "p.png", PICTURE)
    writer = VideoWriter(tmp_path / "v.mp4", 25.0)
    for i in range(30):
        writer.write(fake_picture(64, 48, i))
    writer.close()
    png, mp4 = (tmp_path / "p.png").read_bytes(), (tmp_path / "v.mp4").read_bytes()
    assert mp4.rindex(b"moov") > mp4.index(b"mdat"), "its index is at the end"
    Handler.answers = {
        "/p.png": (200, "image/png", png, len(png)),
        "/snapshot": (200, "image/png", png, None),
        "/secret.png": (200, "image/png", png, len(png)),
        "/a%20b.png?size=1": (200, "application/octet-stream", png, len(png)),
        "/broken.png": (200, "image/png", png[:60], 60),
        "/short.png": (200, "image/png", png[:60], len(png)),
        "/huge.png": (200, "image/png", png, 10**12),
        "/endless.png": (200, "image/png", png * 20, None),
        "/page": (200, "text/html", b"<html>", 6),
        "/v.mp4": (200, "video/mp4", mp4, len(mp4)),
        "/fault.jpg": (500, "text/plain", b"", 0),
    }
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("path", ["p.png", "snapshot", "a b.png?size=1", "a%20b.png?size=1"])
def test_a_picture_is_known_by_its_type_or_its_name(server: str, path: str) -> None:
    source = open_source(f"http://{server}/{path}")
    (frame,) = source
    assert (source.total, source.video) == (1, False)
    assert np.array_equal(frame.image, PICTURE)


def test_a_name_and_a_password_are_sent_as_servers_expect_them(server: str) -> None:
    (frame,) = open_source(f"http://user:p%40ss@{server}/secret.png")
    assert np.array_equal(frame.image, PICTURE)
    with pytest.raises(AxforgeError, match="the server answers 401 Unauthorized"):
        open_source(f"http://{server}/secret.png")


def test_a_video_with_its_index_at_the_end_is_read(server: str) -> None:
    source = open_source(f"http://{server}/v.mp4", frames=20)
    frames = list(source)
    assert (source.total, source.fps, source.video, len(frames)) == (20, 25.0, True, 20)
    assert frames[3].name.endswith("v_000003")
    assert frames[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.jpg", "the server answers 404"),
        ("fault.jpg", "the server answers 500"),
        ("page", "sends a page"),
        ("broken.png", "damaged or not a picture"),
        ("short.png", "broke off after 60 of"),
        ("huge.png", "larger than 0 MB"),
        ("endless.png", "larger than 0 MB"),
        ("silent.jpg", r"silent for 0 seconds|cannot be reached"),
    ],
)
def test_what_goes_wrong_is_a_sentence(server: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PICTURE_BYTES", 5_000)
    monkeypatch.setattr(web, "TIMEOUT", 0.4)
    with pytest.raises(AxforgeError, match=message) as caught:
        list(open_source(f"http://{server}/{path}"))
    assert caught.value.where.endswith(path)
    assert caught.value.fix


@pytest.mark.parametrize("text", ["http://127.0.0.1:9/none.mp4", "http://no.such.host.invalid/x.jpg", "http://127.0.0.1:x/y.jpg"])
def test_a_server_that_is_not_there_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(AxforgeError, match="the address cannot be reached"):
        open_source(text)
    with pytest.raises(AxforgeError, match="not an http address"):
        open_source("http:x.jpg")
