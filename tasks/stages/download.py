"""Downloads of a model that its descriptor gives the address of. Imported when there is one to make."""

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from axforge.axcompiler.stages import Progress

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


def download(url: str, out: Path, progress: Progress) -> None:
    """Writes what is at an http(s) address to `out`. Raises OSError or ValueError, with a reason, also where it is too much or too slow."""
    if urllib.parse.urlsplit(url).scheme.lower() not in ("http", "https"):
        raise ValueError("only http:// and https:// are downloaded")
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
    begun = time.monotonic()
    request = urllib.request.Request(url, headers={"User-Agent": "axforge"})
    with opener.open(request, timeout=SILENCE) as answer, out.open("wb") as stream:
        total, done = int(answer.headers.get("Content-Length") or 0), 0
        if total > MAX_BYTES:
            raise OSError(f"it has {total} bytes, and at most {MAX_BYTES} are downloaded")
        while piece := answer.read1(_PIECE):
            stream.write(piece)
            done += len(piece)
            if done > MAX_BYTES:
                raise OSError(f"it has more than the {MAX_BYTES} bytes that are downloaded at most")
            if time.monotonic() - begun > GRACE + done / MIN_RATE:
                raise OSError(f"it is too slow: {done} bytes in {time.monotonic() - begun:.0f} s")
            progress(min(done, total), total, f"{done >> 20} MB")
        if total and done != total:
            raise OSError(f"the connection ended after {done} of {total} bytes")
