"""Downloads: http(s) only, redirects that lead nowhere private, and no more bytes or time than a model needs."""

import http.server
import os
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from axforge.axcompiler.stages import silent
from axforge.cache.lock import acquire
from axforge.tasks.stages import download as module
from axforge.tasks.stages.download import download

FILE = bytes(range(256)) * 400


class Cutting(http.server.BaseHTTPRequestHandler):
    """Serves FILE, at most `most` bytes in one answer; `ranges`: how it treats a Range: honours it, ignores it, or gives another part."""

    most, ranges = 40_000, "honours"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges != "ignores" else 0
        if first >= len(FILE):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first + (self.ranges == 'shifts')}-{len(FILE) - 1}/{len(FILE)}")
        self.send_header("Content-Length", str(len(FILE) - first))
        self.end_headers()
        self.wfile.write(FILE[first : first + self.most])

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Cutting, "asked", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cutting) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/net.onnx"
        running.shutdown()


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


def test_a_download_goes_on_where_it_ended(cutting: str, tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "downloads" / "a.part"
    for _ in range(2):
        with pytest.raises(OSError, match="the connection ended after"):
            download(cutting, out, silent, kept)
    assert download(cutting, out, silent, kept)
    assert out.read_bytes() == FILE
    assert Cutting.asked == ["", "bytes=40000-", "bytes=80000-"]
    assert not kept.exists()


def test_a_server_without_ranges_begins_again(cutting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, kept = tmp_path / "out", tmp_path / "a.part"
    kept.write_bytes(b"of another file" * 10_000)
    monkeypatch.setattr(Cutting, "ranges", "ignores")
    monkeypatch.setattr(Cutting, "most", len(FILE))
    assert not download(cutting, out, silent, kept)
    assert out.read_bytes() == FILE


def test_another_part_than_was_asked_for_is_refused(cutting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "a.part"
    kept.write_bytes(FILE[:5])
    monkeypatch.setattr(Cutting, "ranges", "shifts")
    with pytest.raises(OSError, match="asked for the bytes from 5 on"):
        download(cutting, tmp_path / "out", silent, kept)
    assert kept.read_bytes() == FILE[:5]


@pytest.mark.parametrize("surplus", [0, 7])
def test_what_is_kept_may_be_as_long_as_the_file(cutting: str, tmp_path: Path, surplus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "a.part"
    kept.write_bytes(bytes(len(FILE) + surplus))
    monkeypatch.setattr(Cutting, "most", len(FILE))
    assert not download(cutting, tmp_path / "out", silent, kept)
    assert (tmp_path / "out").read_bytes() == FILE


def test_two_downloads_of_one_file_do_not_write_into_each_other(cutting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "a.part"
    kept.write_bytes(FILE[:9])
    monkeypatch.setattr(Cutting, "most", len(FILE))
    handle = acquire(kept)
    assert handle is not None
    try:
        assert not download(cutting, tmp_path / "out", silent, kept)
    finally:
        os.close(handle)
    assert (tmp_path / "out").read_bytes() == FILE
    assert kept.read_bytes() == FILE[:9]
    assert Cutting.asked == [""]


def test_what_is_kept_is_never_a_link_to_somewhere_else(cutting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / "a.part").symlink_to(precious)
    monkeypatch.setattr(Cutting, "most", len(FILE))
    assert not download(cutting, tmp_path / "out", silent, tmp_path / "a.part")
    assert precious.read_bytes() == b"mine"


def test_too_large_a_download_keeps_nothing(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    with pytest.raises(OSError, match="more than the"):
        download(f"{server}/endless", tmp_path / "out", silent, tmp_path / "a.part")
    assert (tmp_path / "a.part").stat().st_size == 0
