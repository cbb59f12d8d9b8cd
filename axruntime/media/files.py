"""Which files are pictures, which are videos, and what results are called. Light to import."""

import re
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"})


def is_image(path: Path) -> bool:
    """Whether `path` is called like a picture; hidden files are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    """Whether `path` is called like a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name."""
    return sorted((path for path in folder.iterdir() if is_image(path) and path.is_file()), key=lambda path: path.name)


def slug(text: str) -> str:
    """A file name for a source: of a path its last part, without credentials and signs that file systems dislike."""
    text = re.sub(r"^[a-z]+://([^/]*@)?", "", text.rstrip("/"))
    text = text if ":" in text.split("/")[-1] else text.rsplit("/", 1)[-1]
    stem = re.sub(r"\.(png|jpe?g|bmp|webp|tiff?|mp4|avi|mkv|mov|webm)$", "", text, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "result"
