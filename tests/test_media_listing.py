"""A .txt that lists pictures is a source."""

from pathlib import Path

import numpy as np
import pytest

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.images import read_image, write_image
from axforge.axruntime.media.opening import open_source
from axforge.axruntime.media.sources.fakevideo import fake_picture


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(("a b.png", "sub/c.jpg", "d.png")):
        write_image(tmp_path / name, fake_picture(16, 12, i))
    file = tmp_path / "list.txt"
    file.write_text(f"# two of three, one by its whole path\n\n  a b.png  \n{tmp_path / 'sub' / 'c.jpg'}\r\na b.png\n", encoding="utf-8")
    return file


def test_the_pictures_come_in_the_order_of_the_list(listing: Path) -> None:
    source = open_source(str(listing))
    frames = list(source)
    assert (source.total, source.video) == (3, False)
    assert [(frame.index, frame.name) for frame in frames] == [(0, "a b.png"), (1, "c.jpg"), (2, "a b.png")]
    assert np.array_equal(frames[0].image, read_image(listing.parent / "a b.png"))
    assert [frame.name for frame in open_source(str(listing), frames=2)] == ["a b.png", "c.jpg"]


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (b"a b.png\nmissing.png\n", "there is no such picture: missing.png", "list.txt:2"),
        (b"a b.png\n\nsub\n", "not the name of a picture: sub", "list.txt:3"),
        (b"# nothing\n\n", "names no picture", "list.txt"),
        (b"\xff\xfe", "cannot be read", "list.txt"),
    ],
)
def test_a_list_with_a_mistake_is_answered_with_the_line(listing: Path, content: bytes, what: str, where: str) -> None:
    listing.write_bytes(content)
    with pytest.raises(AxforgeError) as caught:
        open_source(str(listing))
    assert what in caught.value.what
    assert caught.value.where.endswith(where)
    assert caught.value.fix
