"""A server that people already run: nginx with WebDAV as docs/cache.md configures it. Skipped where nginx is not installed."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cache_support import build, is_right, make_store

from axforge.cache.remote.connect import connect

CONFIG = """
daemon off;
pid {base}/nginx.pid;
error_log {base}/error.log;
user {user};
events {{}}
http {{
    access_log {base}/access.log;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi; uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location /axforge/ {{
            root {base}/data;
            dav_methods PUT;
            create_full_put_path on;
        }}
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """URL of a running nginx."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("needs nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = tmp_path / "nginx"
    (base / "data" / "axforge").mkdir(parents=True)
    (base / "nginx.conf").write_text(CONFIG.format(base=base, port=port, user=Path(base).owner()))
    process = subprocess.Popen([program, "-c", base / "nginx.conf", "-p", base], stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/axforge"
    process.terminate()
    process.wait(10)


def test_nginx_keeps_and_gives_back_results(tmp_path: Path, nginx: str) -> None:
    said: list[str] = []
    ci, _ = make_store(tmp_path / "ci", remote=connect(nginx, "rw"), warn=said.append)
    for source in (b"one", b"two"):
        build(ci, source, tmp_path / "d")
    laptop, _ = make_store(tmp_path / "laptop", remote=connect(nginx, "ro"), warn=said.append)
    for source in (b"one", b"two"):
        assert build(laptop, source, tmp_path / "d").how == "restored"
        assert is_right(tmp_path / "d", source)
    assert build(laptop, b"three", tmp_path / "d").how == "ran"
    assert said == []
