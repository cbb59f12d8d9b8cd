"""A container gives back what was put in, and refuses every damaged byte with a FormatError."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import container
from axforge.axcompiler.errors import FormatError

MAGIC = b"TESTFILE"
SECTIONS = {"meta": b"{}", "weights": bytes(range(200)), "empty": b""}


def decode(data):
    return container.decode(data, MAGIC, range(1, 2), where="f", kind=".test")


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=16), st.binary(max_size=300), max_size=5))
def test_round_trip_and_alignment(sections):
    data = container.encode(MAGIC, 1, sections)
    back = decode(data)
    assert {k: bytes(v) for k, v in back.items()} == sections
    assert list(back) == list(sections)
    assert len(data) % container.ALIGN == 0


@given(st.integers(0, len(container.encode(MAGIC, 1, SECTIONS)) * 8 - 1))
@settings(max_examples=400)
def test_every_flipped_bit_is_noticed(bit):
    data = bytearray(container.encode(MAGIC, 1, SECTIONS))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FormatError):
        decode(bytes(data))


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 200, 500])
def test_truncation_and_additions_are_noticed(keep):
    data = container.encode(MAGIC, 1, SECTIONS)
    for damaged in (data[:keep], data + b"\0" * 64):
        with pytest.raises(FormatError):
            decode(damaged)


def test_the_sentence_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "m.test"
    container.write_atomic(path, container.encode(MAGIC, 9, SECTIONS))
    with pytest.raises(FormatError, match="format version 9") as e:
        container.read(path, MAGIC, range(1, 2), kind=".test")
    assert str(path) in str(e.value)
    assert "Compile the model again" in str(e.value)
    with pytest.raises(FormatError, match="cannot be read"):
        container.read(tmp_path / "none", MAGIC, range(1, 2), kind=".test")


def test_writing_leaves_no_temporary_file(tmp_path):
    container.write_atomic(tmp_path / "a", b"1")
    container.write_atomic(tmp_path / "a", b"2")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"2"


def test_a_file_that_is_truncated_while_it_is_used_keeps_its_bytes(tmp_path):
    """In a process of its own: a mapping of the file would end it with SIGBUS."""
    path = tmp_path / "f"
    sections = {"a": bytes(range(256)) * 4096}
    path.write_bytes(container.encode(MAGIC, 1, sections))
    script = (
        "import sys, pathlib; from axforge.axcompiler import container; path = pathlib.Path(sys.argv[1]);"
        "found = container.read(path, b'TESTFILE', range(1, 2), kind='.test'); path.write_bytes(b'');"
        "assert bytes(found['a']) == bytes(range(256)) * 4096"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(container.encode(MAGIC, 1, SECTIONS))
    real = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *args: path.write_bytes(b"") or real(*args))
    with pytest.raises(FormatError, match="became shorter"):
        container.mapped(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused(tmp_path, make):
    make(tmp_path / "f")
    with pytest.raises(FormatError, match=r"not a regular file|Is a directory"):
        container.mapped(tmp_path / "f")
