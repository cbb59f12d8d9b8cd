"""Standard output that the shell closed, or that nobody reads any more. Both are ordinary, and give no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def keep_streams_open() -> None:
    """Output that the shell closed (`>&-`) goes nowhere; without this, the next file that is opened would get it."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for as long as the process lives


def discard_output() -> None:
    """Nobody reads any more (`| head`): whatever is written from now on, also when the interpreter ends, goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


@contextmanager
def unread_output_discarded() -> Iterator[None]:
    """Writing to a pipe that nobody reads ends the block, and is not an error."""
    try:
        yield
    except BrokenPipeError:
        discard_output()


def flush_output() -> None:
    """Write what is buffered, for the end of a process."""
    if sys.stdout is not None and not sys.stdout.closed:
        with unread_output_discarded():
            sys.stdout.flush()
