"""Calibration samples: which ones (light: no file is opened), and the feeds made of them.

A sample is decided by the bytes of its file and by its `variant`, so whoever keeps results can name them by content.
"""

import json
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.lazy import Array, Image, ImageDraw, ImageFont, cv2, np
from axforge.axruntime.media.files import images_in
from axforge.axruntime.media.samples import sample_names, sample_path
from axforge.axruntime.pipeline.descriptor import Calibration, Descriptor

#: Seed of the crops that are made of sample photos.
_SEED = 2024
_PHOTO = "sample:"
#: Samples that cannot be used and are named.
_NAMED = 20
#: More crops than this, of a handful of photos, add nothing.
_ENOUGH_CROPS = 96
#: What made-up words consist of: small letters more often than others, as in most texts.
_LETTERS = string.ascii_lowercase * 4 + string.ascii_uppercase + string.digits + ".,:-/()'%"


@dataclass(frozen=True)
class CalibrationItem:
    """One sample. variant: '' for a whole picture, else JSON: {"row": [i, of]} of an .npz, how a photo is cropped and lit, or what is
    written on it."""

    name: str
    path: Path
    variant: str = ""


def calibration_samples(descriptor: Descriptor, data_root: Path | None, count: int | None = None) -> list[CalibrationItem]:
    """The samples that `descriptor` wants, at most `count` of them, spread evenly over the files, in a fixed order.

    A model of pictures whose model.json names no calibration data gets photos that installed packages ship (see `stand_ins`).
    Raises AxforgeError when there are none, saying which folder to fill or how to name another.
    """
    wanted = descriptor.calibration
    if wanted is None and descriptor.preprocessing:
        wanted = Calibration(path="", count=_ENOUGH_CROPS, samples=True)
    if wanted is None:
        fix = 'Add to model.json: "calibration": {"path": "FOLDER"}, a folder of pictures below the data root.'
        raise AxforgeError("model.json names no calibration data", where=descriptor.name, fix=fix)
    crops = min(wanted.count, _ENOUGH_CROPS) if count is None else count
    count = wanted.count if count is None else count
    if count < 1:
        raise AxforgeError(f"{count} calibration samples are too few", where=descriptor.name, fix="Use at least 1; 100 or more are usual.")
    if not wanted.path:
        return _of_photos(crops, descriptor.name)
    path = data_root / wanted.path if data_root is not None else Path(wanted.path)
    if path.is_file() and path.suffix == ".npz":
        return [CalibrationItem(f"{path.name}[{i}/{count}]", path, json.dumps({"row": [i, count]})) for i in range(count)]
    if path.is_dir():
        return _of_folder(path, count, descriptor.name)
    if wanted.samples == "text":
        return _of_text(crops, descriptor.name)
    if wanted.samples:
        return _of_photos(crops, descriptor.name)
    fix = "Put pictures there." if data_root is not None else "Name the folder above it with --data-root or AXFORGE_DATA_ROOT."
    raise AxforgeError("the calibration data of this model is not there", where=f"{descriptor.name}: {path}", fix=fix)


def stand_ins(items: Sequence[CalibrationItem]) -> bool:
    """Whether samples are photos of installed packages instead of pictures of the kind that the model is for."""
    return any(item.name.startswith(_PHOTO) for item in items)


def _of_folder(folder: Path, count: int, model: str) -> list[CalibrationItem]:
    files = images_in(folder)
    if not files:
        raise AxforgeError("the calibration folder has no pictures", where=f"{model}: {folder}", fix="Put .jpg or .png files there.")
    chosen = files if len(files) <= count else [files[i * len(files) // count] for i in range(count)]
    return [CalibrationItem(path.name, path) for path in chosen]


def _of_photos(count: int, model: str) -> list[CalibrationItem]:
    """Crops of the photos that packages ship: 20 % to 100 % of the area, mirrored or not, brighter or darker, tinted."""
    names = sample_names()
    if not names:
        raise AxforgeError("no installed package ships a photo to calibrate with", where=model, fix="Name a folder of pictures.")
    rng = random.Random(_SEED)
    items = []
    for i in range(count):
        name = names[i % len(names)]
        width, height = (round(rng.uniform(0.45, 1.0), 4) for _ in range(2))
        left, top = (round(rng.uniform(0.0, 1.0 - side), 4) for side in (width, height))
        brightness = rng.uniform(0.7, 1.3)
        gains = [round(brightness * rng.uniform(0.9, 1.1), 4) for _ in range(3)]
        mirrored = rng.random() < 0.5
        variant = {"crop": [left, top, left + width, top + height], "gains": gains, "mirrored": mirrored} if i >= len(names) else {}
        items.append(CalibrationItem(f"{_PHOTO}{name}#{i}", sample_path(name), json.dumps(variant) if variant else ""))
    return items


def _of_text(count: int, model: str) -> list[CalibrationItem]:
    """Lines of one to seven made-up words, dark on light or light on dark, on pale photos that packages ship."""
    names = sample_names()
    if not names:
        raise AxforgeError("no installed package ships a photo to calibrate with", where=model, fix="Name a folder of pictures.")
    rng = random.Random(_SEED)
    items = []
    for i in range(count):
        words = ["".join(rng.choices(_LETTERS, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 7))]
        colours = [[rng.randint(150, 255) for _ in range(3)], [rng.randint(0, 90) for _ in range(3)]]
        variant = {"text": " ".join(words), "size": rng.randint(16, 40), "ground": colours[i % 5 == 0], "ink": colours[i % 5 != 0]}
        items.append(CalibrationItem(f"text#{i}", sample_path(names[i % len(names)]), json.dumps(variant)))
    return items


def load_sample(item: CalibrationItem, opened: dict[Path, Array] | None = None) -> Array:
    """The sample as the pipeline takes it: uint8 RGB [H, W, 3], or the row of an .npz. Raises AxforgeError.

    opened: files that several samples are parts of, as they were read before; this one is added.
    """
    from axforge.axruntime.media.arrays import read_arrays
    from axforge.axruntime.media.images import read_image

    if not item.variant:
        return read_image(item.path)
    variant = json.loads(item.variant)
    opened = {} if opened is None else opened
    if item.path not in opened:
        opened[item.path] = read_arrays(item.path)[0] if "row" in variant else read_image(item.path)
    whole = opened[item.path]
    if "row" in variant:
        i, count = variant["row"]
        return whole[i * len(whole) // count]
    return _varied(whole, variant)


def _lettered(photo: Array, variant: Mapping[str, Any]) -> Array:
    """A line of text on a plain ground through which a photo shines faintly."""
    font = ImageFont.load_default(variant["size"])
    left, top, right, bottom = font.getbbox(variant["text"])
    width, height = round(right - left) + 8, round(bottom - top) + 8
    ground = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA) * 0.15 + np.asarray(variant["ground"]) * 0.85
    canvas = Image.fromarray(np.rint(ground).astype(np.uint8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), variant["text"], font=font, fill=tuple(variant["ink"]))
    return np.asarray(canvas)


def _varied(image: Array, variant: Mapping[str, Any]) -> Array:
    if "text" in variant:
        return _lettered(image, variant)
    height, width = image.shape[:2]
    left, top, right, bottom = variant["crop"]
    crop = image[int(top * height) : max(int(bottom * height), 1), int(left * width) : max(int(right * width), 1)]
    lit = np.clip(crop * np.asarray(variant["gains"], np.float32), 0, 255).astype(np.uint8)
    return lit[:, ::-1] if variant["mirrored"] else lit


def feeds(
    descriptor: Descriptor, items: Sequence[CalibrationItem], inputs: Mapping[str, tuple[tuple[int, ...], str]]
) -> Iterator[dict[str, Array]]:
    """One feed {input: array} for each of `items`, made by the model's own pre-processing.

    inputs: shape (-1 where free) and type of the network's inputs, as `Engine.inputs` or `onnx_inputs` give them.
    Raises AxforgeError that names all samples which cannot be read or do not fit; after the first of them nothing more is given.
    """
    from axforge.axruntime.pipeline.chain import prepare
    from axforge.axruntime.pipeline.pipeline import fit_input, only_input

    name = only_input(inputs, descriptor.name)
    opened: dict[Path, Array] = {}
    bad: list[AxforgeError] = []
    for item in items:
        try:
            feed = {name: fit_input(prepare(descriptor.preprocessing, load_sample(item, opened)).tensor, name, inputs)}
        except AxforgeError as e:
            bad.append(
                e if str(item.path) in e.where else AxforgeError(e.what, where=f"{item.path}: {e.where}".removesuffix(": "), fix=e.fix)
            )
            continue
        if not bad:
            yield feed
    if bad:
        raise _all_of(bad, len(items))


def _all_of(bad: Sequence[AxforgeError], count: int) -> AxforgeError:
    """One error for all samples that cannot be used, so that nobody has to correct them one by one."""
    if len(bad) == 1:
        return bad[0]
    named = [f"\n  {error.where}: {error.what}" for error in bad[:_NAMED]]
    more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return AxforgeError(f"{len(bad)} of {count} calibration samples cannot be used:{''.join(named)}{more}", fix=bad[0].fix)


def onnx_inputs(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape (-1 where free) and NumPy type of the inputs of the ONNX at `path`, without its weights that are listed as inputs."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    signature = {}
    for value in model.graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
            signature[value.name] = (shape, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    return signature
