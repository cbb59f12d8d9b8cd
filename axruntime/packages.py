"""A package that a run needs and that is not installed is named, with the command that installs it."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from axforge.axcompiler.errors import AxforgeError

#: What to install for a module, where it has another name.
_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}


@contextmanager
def missing_named() -> Iterator[None]:
    """Turns the ImportError of a package that is not there into an AxforgeError. (A compiled model runs where few are installed.)"""
    try:
        yield
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        if package in ("", "axforge"):
            raise
        raise missing(package) from e


def require(package: str) -> None:
    """Raise AxforgeError when `package` is not installed. Does not import it."""
    if importlib.util.find_spec(package) is None:
        raise missing(package)


def missing(package: str) -> AxforgeError:
    """The error for a package that is not installed."""
    name = _DISTRIBUTIONS.get(package, package)
    return AxforgeError(f"the package {name}, which this needs, is not installed", fix=f"Install it: python -m pip install {name}")
