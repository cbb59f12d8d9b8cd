"""A server of Bazel's HTTP cache protocol, as its own process: `python cache_server.py FOLDER`; prints its port.

It checks uploads to /cas/ and the contents an action result refers to, and adds a worker's name to that, as bazel-remote does.
A file FOLDER/mode, read at each request, makes it misbehave: 500, 403, slow (a byte now and then), hang, lie (wrong bytes),
short (breaks off), long (too many bytes), html, huge. FOLDER/auth: the Authorization header it insists on. FOLDER/log: a line a request.
"""

import hashlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cache_bazel import ActionResult, with_worker
from google.protobuf.message import DecodeError


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    root: Path

    def _begin(self) -> str:
        """Log it and apply modes that need no content; returns the mode, or '' when it has been answered."""
        with open(self.root / "log", "a") as log:
            log.write(f"{self.command} {self.path}\n")
        mode = (self.root / "mode").read_text() if (self.root / "mode").exists() else "good"
        needed = (self.root / "auth").read_text() if (self.root / "auth").exists() else ""
        if needed and self.headers.get("Authorization") != needed:
            return self._answer(401)
        if mode in ("500", "403"):
            return self._answer(int(mode))
        if mode == "hang":
            time.sleep(30)
            return self._answer(500)
        return mode

    def _answer(self, status: int, data: bytes = b"", kind: str = "application/octet-stream") -> str:
        if self.command == "PUT" and status >= 400:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return ""

    def _file(self) -> Path | None:
        parts = self.path.strip("/").split("/")
        if len(parts) < 2 or parts[-2] not in ("ac", "cas") or len(parts[-1]) != 64 or parts[0] != "instance":
            return None
        return self.root / parts[-2] / parts[-1]

    def do_HEAD(self) -> None:
        if self._begin():
            file = self._file()
            self._answer(200 if file and file.exists() else 404)

    def do_GET(self) -> None:
        mode, file = self._begin(), self._file()
        if not mode:
            return
        if file is None or not file.exists() or (file.parent.name == "ac" and not self._complete(file.read_bytes())):
            self._answer(404)
            return
        data = file.read_bytes()
        if mode == "html":
            self._answer(200, b"<html>Please log in</html>", "text/html")
        elif mode == "lie":
            self._answer(200, data[:-1] + bytes([data[-1] ^ 1]))
        elif mode == "long":
            self._answer(200, data + b"more")
        elif mode in ("short", "slow", "huge"):
            self._misbehave(mode, data)
        else:
            self._answer(200, data)

    def _misbehave(self, mode: str, data: bytes) -> None:
        self.close_connection = True
        self.send_response(200)
        if mode != "huge":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if mode == "short":
            self.wfile.write(data[: len(data) // 2])
        for number in range(400 if mode != "short" else 0):
            try:
                self.wfile.write(data[number : number + 1] if mode == "slow" else b"x" * 1_000_000)
            except OSError:
                return
            if mode == "slow":
                time.sleep(0.05)

    def do_PUT(self) -> None:
        if not self._begin():
            return
        file = self._file()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        wrong = file is None or (file.parent.name == "cas" and hashlib.sha256(data).hexdigest() != file.name)
        if file is None or wrong or (file.parent.name == "ac" and not self._complete(data)):
            self._answer(400)
            return
        file.parent.mkdir(exist_ok=True)
        if file.parent.name == "ac":
            data = with_worker(data)
        temporary = file.with_name(f"{file.name}.{time.monotonic_ns()}")
        temporary.write_bytes(data)
        temporary.rename(file)
        self._answer(200)

    def _complete(self, data: bytes) -> bool:
        """Whether it is an action result whose contents are all here, with their sizes."""
        try:
            result = ActionResult.FromString(data)
        except DecodeError:
            return False
        digests = [file.digest for file in result.output_files] + ([result.stdout_digest] if result.HasField("stdout_digest") else [])
        paths = [self.root / "cas" / digest.hash for digest in digests]
        return bool(digests) and all(p.exists() and p.stat().st_size == d.size_bytes for p, d in zip(paths, digests, strict=True))

    def log_message(self, *args: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
