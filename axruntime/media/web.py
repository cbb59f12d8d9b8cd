"""Getting pictures and videos from a web server, with sentences for what goes wrong, and limits for what goes on for ever."""

import base64
import contextlib
import http.client
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES

#: Seconds in which the server must answer, and then send something.
TIMEOUT = 10.0
#: Bytes and seconds that a picture and a video may take.
PICTURE_BYTES, PICTURE_SECONDS = 100_000_000, 60.0
VIDEO_BYTES, VIDEO_SECONDS = 4_000_000_000, 3600.0

_CHUNK = 1 << 18


def kind_of(address: str) -> Literal["picture", "video", "stream"]:
    """What the server sends: a picture, a video file of known length, or something that goes on. Reads the header of the answer only.

    Raises AxforgeError when the server cannot be reached, refuses, or sends a page.
    """
    with _answer(address) as answer:
        sent = answer.headers.get_content_type()
        suffix = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).suffix.lower()
        finite = answer.headers.get("Content-Length") is not None
        if sent.startswith("image/") or (sent == "application/octet-stream" and suffix in IMAGE_SUFFIXES):
            return "picture"
        if sent == "text/html":
            fix = "Open the address in a browser, and take the address of the picture or video itself."
            raise AxforgeError("the server sends a page, and no picture or video", where=address, fix=fix)
        return "video" if finite and (sent.startswith("video/") or suffix in VIDEO_SUFFIXES) else "stream"


def picture_bytes(address: str) -> bytes:
    """The file at the address. Raises AxforgeError, as for one that is too large or takes too long."""
    return b"".join(_chunks(address, PICTURE_BYTES, PICTURE_SECONDS))


def video_file(address: str) -> "tempfile._TemporaryFileWrapper[bytes]":
    """The video at the address in a temporary file, which is there as long as the returned object: its index may be at its end."""
    suffix = PurePosixPath(urllib.parse.urlsplit(address).path).suffix
    file = tempfile.NamedTemporaryFile(prefix="axforge-", suffix=suffix)  # noqa: SIM115  outlives this function
    try:
        for chunk in _chunks(address, VIDEO_BYTES, VIDEO_SECONDS):
            file.write(chunk)
        file.flush()
    except OSError as e:
        file.close()
        fix = "Make room in the temporary folder, or name another with TMPDIR."
        raise AxforgeError(f"the video cannot be kept: {e.strerror or e}", where=address, fix=fix) from e
    return file


def _chunks(address: str, most: int, seconds: float) -> Iterator[bytes]:
    """The body in pieces. Raises AxforgeError for one that ends early, is larger than `most` bytes or takes longer than `seconds`."""
    deadline, got = time.monotonic() + seconds, 0
    with _answer(address) as answer:
        length = answer.headers.get("Content-Length")
        if length is not None and length.isdigit() and int(length) > most:
            _refuse_size(address, most)
        while chunk := answer.read(_CHUNK):
            got += len(chunk)
            if got > most:
                _refuse_size(address, most)
            if time.monotonic() > deadline:
                raise AxforgeError(f"the server takes longer than {seconds:.0f} seconds", where=address, fix="Download the file first.")
            yield chunk
        if length is not None and length.isdigit() and got < int(length):
            raise AxforgeError(f"the connection broke off after {got} of {length} bytes", where=address, fix="Try again.")


def _refuse_size(address: str, most: int) -> None:
    fix = "Download it first, and name the file."
    raise AxforgeError(f"the file is larger than {most / 1e6:,.0f} MB", where=address, fix=fix)


@contextlib.contextmanager
def _answer(address: str) -> Iterator[http.client.HTTPResponse]:
    """The open answer to a GET. Raises AxforgeError in its place, and for what happens while it is read."""
    try:
        with urllib.request.urlopen(_request(address), timeout=TIMEOUT) as answer:
            yield answer
    except urllib.error.HTTPError as e:
        fix = "Check the address." if e.code in (404, 410) else "Check the address, and whether it needs a name and a password."
        raise AxforgeError(f"the server answers {e.code} {e.reason}", where=address, fix=fix) from e
    except TimeoutError as e:
        raise AxforgeError(
            f"the server is silent for {TIMEOUT:.0f} seconds", where=address, fix="Check the address and the network."
        ) from e
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, ValueError) as e:
        reason = getattr(e, "reason", e)
        if isinstance(reason, TimeoutError):
            reason = f"no answer in {TIMEOUT:.0f} seconds"
        elif isinstance(reason, OSError) and reason.strerror:
            reason = reason.strerror
        raise AxforgeError(f"the address cannot be reached: {reason}", where=address, fix="Check the address and the network.") from e


def _request(address: str) -> urllib.request.Request:
    """A request, with name and password of the address in its header, where servers expect them."""
    parts = urllib.parse.urlsplit(address)
    headers = {"User-Agent": "axforge", "Accept": "image/*, video/*, */*"}
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return urllib.request.Request(urllib.parse.urlunsplit((parts.scheme, host, path, parts.query, "")), headers=headers)
