"""Mistakes that a user can fix become failed tasks with one sentence; anything else gets doit's traceback."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn

from doit.exceptions import TaskFailed

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.output import discard_output
from axforge.axruntime.packages import missing_extra
from axforge.cache.errors import CacheError, masked
from axforge.tasks.project.doit_state import TaskDict

#: A function that makes tasks for doit, which calls it without arguments.
Creator = Callable[[], Iterator[TaskDict]]


def say(error: Exception) -> str:
    """The sentence for a user, or '' when `error` is not a mistake of theirs."""
    if isinstance(error, (AxforgeError, CacheError)):
        return masked(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return masked(f"{error.filename}: {error.strerror}.")
    if isinstance(error, MemoryError):
        return "There is not enough memory for this."
    return missing_extra(error)


class Guarded:
    """A doit action that turns a user's mistakes into a failed task (exit status 1, no traceback)."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __call__(self) -> object:
        """Run the action; a user's mistake fails its task."""
        try:
            return self.action()
        except BrokenPipeError:  # `| head` has read enough
            discard_output()
            return True
        except Exception as error:
            sentence = say(error)
            if not sentence:
                raise
            return TaskFailed(sentence)


def report_user_errors(creator: Creator) -> Creator:
    """For task creators (generators): a user's mistake ends the program with its sentence and status 1."""

    @wraps(creator)
    def wrapped() -> Iterator[TaskDict]:
        with stop_at_mistakes():
            yield from creator()

    return wrapped


@contextmanager
def stop_at_mistakes() -> Iterator[None]:
    """A user's mistake inside ends the program with its sentence and status 1."""
    try:
        yield
    except BrokenPipeError:
        discard_output()
        raise SystemExit(0) from None
    except Exception as error:
        if sentence := say(error):
            stop(sentence)
        raise


def stop(sentence: str) -> NoReturn:
    """End the program: the sentence on stderr, status 1."""
    print(f"ERROR: {masked(sentence)}", file=sys.stderr)
    raise SystemExit(1)
