"""A container gives back what was put in, and refuses every damaged byte with a FormatError."""

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
