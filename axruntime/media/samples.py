"""Photos that installed packages ship, found without importing those packages. Light to import."""

import importlib.util
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError

#: name: (top-level package, path in it). Photographs only: they also calibrate models when there is nothing else.
_PHOTOS = {
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def _find(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / path
    return file if file.is_file() else None


def sample_names() -> list[str]:
    """Names of the photos that are there, sorted."""
    return sorted(name for name, where in _PHOTOS.items() if _find(*where) is not None)


def sample_path(name: str) -> Path:
    """The file of the photo `name`. Raises AxforgeError that lists the known names, or names the package to install."""
    if name not in _PHOTOS:
        raise AxforgeError(
            f"there is no sample '{name}'", where=f"sample:{name}", fix=f"Known here: {', '.join(sample_names()) or 'none'}."
        )
    package, path = _PHOTOS[name]
    file = _find(package, path)
    if file is None:
        fix = f"Install it, or take one of: {', '.join(sample_names()) or 'none'}."
        raise AxforgeError(f"the package '{package}', which ships this photo, is not installed", where=f"sample:{name}", fix=fix)
    return file
