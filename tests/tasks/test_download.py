"""Downloads: http(s) only, redirects that lead nowhere private, and no more bytes or time than a model needs."""

import http.server
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from axforge.axcompiler.stages import silent
from axforge.tasks.stages import download as module
from axforge.tasks.stages.download import download


class Handler(http.server.BaseHTTPRequestHandler):
    """/to/URL redirects there, /endless never ends, /large says that it is, and anything else is a model."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        self.send_response(200)
        if self.path == "/large":
            self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"model" * 1000)
                if self.path != "/endless":
                    break
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_redirect_to_the_same_kind_of_address_is_followed(server: str, tmp_path: Path) -> None:
    download(f"{server}/to/{server}/net.onnx", tmp_path / "out", silent)
    assert (tmp_path / "out").read_bytes() == b"model" * 1000


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_scheme_is_not_followed(server: str, tmp_path: Path, target: str) -> None:
    with pytest.raises(urllib.error.URLError, match=r"not followed|not allowed"):
        download(f"{server}/to/{target}", tmp_path / "out", silent)


def test_a_redirect_from_the_internet_to_a_private_address_is_not_followed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_private", lambda host: host == "localhost")
    with pytest.raises(urllib.error.URLError, match="private network"):
        download(f"{server}/to/{server.replace('127.0.0.1', 'localhost')}/net.onnx", tmp_path / "out", silent)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "fd00::1", "0.0.0.0"])
def test_private_addresses_are_known(host: str) -> None:
    assert module._private(host)
    assert not module._private("8.8.8.8")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "data:,x", "/etc/passwd"])
def test_only_http_is_downloaded(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="only http"):
        download(url, tmp_path / "out", silent)


def test_a_download_has_limits_of_bytes_and_time(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="at most"):
        download(f"{server}/large", tmp_path / "out", silent)
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    with pytest.raises(OSError, match="more than the"):
        download(f"{server}/endless", tmp_path / "out", silent)
    monkeypatch.setattr(module, "GRACE", -1e9)  # whatever arrives first is late
    with pytest.raises(OSError, match="too slow"):
        download(f"{server}/endless", tmp_path / "out", silent)
