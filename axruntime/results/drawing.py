"""What results are drawn with: colours of classes, boxes with labels, and panels that list classes. Light to import."""

import colorsys
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from axforge.axruntime.lazy import Array, Image, ImageDraw, ImageFont, np

if TYPE_CHECKING:
    from axforge.axruntime.results.masks import InstanceMask

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Colour = tuple[int, int, int]
_INK: Colour = (20, 20, 20)
_PAPER: Colour = (255, 255, 255)
#: Saturation and value.
_SHADES = ((0.9, 0.85), (0.55, 1.0), (1.0, 0.55))
#: A label may be this many times as wide as its box, else it loses its score, then itself: in a crowd it would hide its neighbours.
_WIDEST_LABEL = 2.0
#: Points that are less likely are not drawn: the joints that a pose hides.
_SURE_POINT = 0.5


def class_colour(class_id: int) -> Colour:
    """A colour for a class: steps of the golden angle on the hue circle, in three shades, so that near numbers differ much."""
    hue = class_id * 0.618033988749895 % 1.0
    saturation, value = _SHADES[class_id % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is more legible on `colour` (relative luminance, WCAG 2)."""
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _INK if luminance > 0.18 else _PAPER


def ground_of(image: Array) -> Array:
    """The picture to draw on: `image` itself if it is uint8 RGB [H, W, 3], else its values stretched to grey and enlarged to be seen."""
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return image
    plane = np.asarray(image, np.float64).reshape(image.shape[0], -1)
    low, high = float(plane.min()), float(plane.max())
    grey = ((plane - low) / (high - low or 1) * 255).astype(np.uint8)
    factor = max(1, 320 // max(grey.shape))
    return np.repeat(np.repeat(grey, factor, axis=0), factor, axis=1)[:, :, np.newaxis].repeat(3, axis=2)


@functools.lru_cache(maxsize=8)
def _font(size: int) -> "Font":
    return ImageFont.load_default(size)


def _font_for(width: int, height: int) -> "Font":
    return _font(max(10, round(min(width, height) / 38)))


def boxes_on(
    image: Array,
    boxes: Sequence[Sequence[float]],
    class_ids: Sequence[int],
    labels: Sequence[str],
    scores: Sequence[float],
    polygons: Sequence[Sequence[Sequence[float]]] | None = None,
) -> Array:
    """The picture with boxes (left, top, right, bottom; best first) in the colours of their classes, labelled where there is room.

    polygons: drawn in place of the boxes, which then only say where labels go.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    width, height = canvas.size
    line, font = max(2, round(min(width, height) / 250)), _font_for(width, height)
    rows = list(zip(boxes, class_ids, labels, scores, strict=True))
    for at in reversed(range(len(rows))):  # the best on top
        (left, top, right, bottom), colour = rows[at][0], class_colour(rows[at][1])
        if polygons is None:
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        else:
            draw.polygon([(x, y) for x, y in polygons[at]], outline=colour, width=line)
    taken: list[tuple[float, float, float, float]] = []
    for (left, top, right, _), class_id, name, score in rows:
        widest = _WIDEST_LABEL * (right - left)
        text = next((t for t in (f"{name} {score:.2f}", name) if draw.textlength(t, font=font) <= widest), None)
        place = _place(draw, text, font, (left, top), (width, height), taken) if text else None
        if text is None or place is None:
            continue
        taken.append(place)
        draw.rectangle(place, fill=class_colour(class_id))
        draw.text((place[0] + 3, place[1] + 1), text, font=font, fill=ink_on(class_colour(class_id)))
    return np.asarray(canvas)


def masks_on(image: Array, masks: "Sequence[InstanceMask]", class_ids: Sequence[int]) -> Array:
    """The picture with the masks (best first) tinted in the colours of their classes."""
    tinted = image.copy()
    for mask, class_id in reversed(list(zip(masks, class_ids, strict=True))):
        part = tinted[mask.rows, mask.columns]
        part[mask.pixels] = np.rint(part[mask.pixels] * 0.5 + np.array(class_colour(class_id)) * 0.5).astype(np.uint8)
    return tinted


def points_on(image: Array, objects: Sequence[Sequence[Sequence[float]]], class_ids: Sequence[int]) -> Array:
    """The picture with the points (x, y, confidence) of each object that are at least half sure, in the colours of their classes."""
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    radius = max(2, round(min(canvas.size) / 200))
    for points, class_id in zip(objects, class_ids, strict=True):
        for x, y, confidence in points:
            if confidence >= _SURE_POINT:
                place = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(place, fill=class_colour(class_id), outline=_PAPER)
    return np.asarray(canvas)


def _place(
    draw: "ImageDraw.ImageDraw",
    text: str,
    font: "Font",
    corner: tuple[float, float],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float, float, float] | None:
    """Where a label goes: above the box's corner, else in it, else further down; None where every place is taken."""
    _, _, wide, high = draw.textbbox((0, 0), text, font=font)
    wide, high = wide + 6, high + 4
    left = min(max(0.0, corner[0]), max(0.0, size[0] - wide))
    for top in (corner[1] - high, corner[1], corner[1] + high, corner[1] + 2 * high):
        place = (left, top, left + wide, top + high)
        inside = top >= 0 and place[3] <= size[1]
        if inside and not any(a[0] < place[2] and place[0] < a[2] and a[1] < place[3] and place[1] < a[3] for a in taken):
            return place
    return None


def panel_below(image: Array, rows: list[tuple[str, Colour]]) -> Array:
    """The picture (a tiny one enlarged) with a dark panel below it that lists `rows`, each with a swatch of its colour."""
    if (factor := 160 // max(image.shape[:2])) > 1:
        image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    width = max(image.shape[1], 240)
    size = max(12, round(width / 32))
    font, step = _font(size), round(size * 1.5)
    canvas = Image.new("RGB", (width, image.shape[0] + step * len(rows) + step // 2), (30, 30, 34))
    canvas.paste(Image.fromarray(np.ascontiguousarray(image)), ((width - image.shape[1]) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for i, (text, colour) in enumerate(rows):
        top = image.shape[0] + step // 4 + i * step
        draw.rectangle((8, top + step // 4, 8 + step // 2, top + step // 4 + step // 2), fill=colour)
        draw.text((16 + step // 2, top + (step - size) // 2), text, font=font, fill=_PAPER)
    return np.asarray(canvas)
