"""The nearest known name, for error messages."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?`, or what there is when nothing is near."""
    from difflib import get_close_matches  # only when something is wrong

    names = sorted(known)
    close = get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(name) for name in close)}?"
    return f"Known: {', '.join(names)}." if names else "There are none."
