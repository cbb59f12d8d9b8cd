"""Downloads of a model that its descriptor gives the address of. Imported when there is one to make."""

import http
import http.client
import ipaddress
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from axforge.axcompiler.stages import Progress
from axforge.cache.lock import acquire

#: most bytes of a download; a model.onnx may have 2 GiB
MAX_BYTES = 4 << 30
#: seconds without any byte, and seconds after which a download must have come at `MIN_RATE` bytes a second
SILENCE, GRACE, MIN_RATE = 30.0, 60.0, 20_000
_PIECE = 1 << 20


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A redirect stays with http(s), never drops the encryption, and leads to a private address only from another one.

    An address on the internet could else have this machine ask a server that only it can reach.
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """The request of the next address. Raises URLError for one that is not followed."""
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme != "https"):
            raise urllib.error.URLError(f"it is redirected from {before.scheme} to {after.scheme or 'no scheme'}, which is not followed")
        if _private(after.hostname) and not _private(before.hostname):
            raise urllib.error.URLError(f"it is redirected to '{after.hostname}', an address of a private network, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _private(host: str | None) -> bool:
    """Whether any address of `host` is not on the internet."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False  # there is no such host, which is said when it is asked
    return any(not ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_global for address in found)


def download(url: str, out: Path, progress: Progress, kept: Path | None = None) -> bool:
    """Writes what is at an http(s) address to `out`. Raises OSError or ValueError, with a reason, also where it is too much or too slow.

    kept: a file that keeps what came before a failure; the next call asks for the rest only. Gives whether it did so: then the two
    pieces may be of different files, which a checksum tells. Two processes never write to one such file; the second keeps nothing.
    """
    if urllib.parse.urlsplit(url).scheme.lower() not in ("http", "https"):
        raise ValueError("only http:// and https:// are downloaded")
    if kept is None or (handle := _locked(kept)) is None:
        with out.open("wb") as stream:
            return _receive(url, stream, 0, progress)
    with os.fdopen(handle, "r+b") as stream:
        resumed = _receive(url, stream, stream.seek(0, os.SEEK_END), progress)
        stream.flush()
        shutil.copyfile(kept, out)
        kept.unlink()
    return resumed


def _locked(kept: Path) -> int | None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    return acquire(kept, wait=False)


def _receive(url: str, stream: IO[bytes], have: int, progress: Progress) -> bool:
    """Append what comes after the first `have` bytes, or begin again where the server gives no rest; gives whether it appended."""
    try:
        answer = _ask(url, have)
    except urllib.error.HTTPError as error:
        if not have or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        answer, have = _ask(url, 0), 0  # what is kept is as long as the file, or longer
    with answer:
        first, total = _range(answer, have)
        stream.truncate(first)
        stream.seek(first)
        _copy(answer, stream, first, total, progress)
    return first > 0


def _ask(url: str, have: int) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    headers = {"User-Agent": "axforge"} | ({"Range": f"bytes={have}-"} if have else {})
    answer: http.client.HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=SILENCE)
    return answer


def _range(answer: http.client.HTTPResponse, have: int) -> tuple[int, int]:
    """Where the answer begins in the file, and how long the file is, 0 if that is not said. Raises OSError for another part of it."""
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        total = int(answer.headers.get("Content-Length") or 0)
        first = 0
    else:
        said = str(answer.headers.get("Content-Range", ""))
        found = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", said)
        if not have or found is None or int(found[1]) != have:
            raise OSError(f"it was asked for the bytes from {have} on, and answers with {said or 'an unknown part'!r}")
        first, total = have, int(found[2]) if found[2] != "*" else 0
    if total > MAX_BYTES:
        raise OSError(f"it has {total} bytes, and at most {MAX_BYTES} are downloaded")
    return first, total


def _copy(answer: http.client.HTTPResponse, stream: IO[bytes], first: int, total: int, progress: Progress) -> None:
    begun, done = time.monotonic(), first
    while piece := answer.read1(_PIECE):
        stream.write(piece)
        done += len(piece)
        if done > MAX_BYTES:
            stream.truncate(0)  # there is nothing worth keeping
            raise OSError(f"it has more than the {MAX_BYTES} bytes that are downloaded at most")
        if time.monotonic() - begun > GRACE + (done - first) / MIN_RATE:
            raise OSError(f"it is too slow: {done - first} bytes in {time.monotonic() - begun:.0f} s")
        progress(min(done, total), total, f"{done >> 20} MB")
    if total and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
