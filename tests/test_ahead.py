"""Items that are made ahead by a thread: in order, with their errors, and without a thread that is left over."""

import threading
import time
from collections.abc import Iterator

import pytest

from axforge.axcompiler.ahead import ahead


def count(n: int, made: list[int]) -> Iterator[int]:
    for i in range(n):
        made.append(i)
        yield i


def test_the_items_come_in_their_order() -> None:
    assert list(ahead(range(1000))) == list(range(1000))
    assert list(ahead(())) == []
    assert list(ahead([None, 1, None])) == [None, 1, None]


def test_no_more_than_asked_for_are_made_in_advance() -> None:
    made: list[int] = []
    items = ahead(count(100, made), most=2)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert made == [0, 1, 2, 3]  # one is in use, two wait, one waits for room
    items.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_comes_where_its_item_would_have_come(error: BaseException) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise error

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error


def test_a_caller_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    made: list[int] = []
    for item in ahead(count(1_000_000, made)):
        if item == 3:
            break
    assert threading.active_count() == before
    assert len(made) < 10

    nested = ahead(ahead(count(1_000_000, made)))
    assert next(nested) == 0
    nested.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
