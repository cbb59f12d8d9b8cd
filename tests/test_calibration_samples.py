"""Calibration samples: chosen the same way each time, named so that their content can be hashed, and refused with the file's name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axforge import ax_models
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.media.images import write_image
from axforge.axruntime.media.sources.fakevideo import fake_picture
from axforge.axruntime.pipeline.calibration import calibration_samples, feeds, load_sample, stand_ins
from axforge.axruntime.pipeline.descriptor import Descriptor, load_descriptor, parse_descriptor

ZOO = Path(ax_models.__file__).parent
INPUTS = {"x": ((1, 3, 8, 8), "float32")}


def described(**changes: Any) -> Descriptor:
    steps = [{"type": "resize", "width": 8, "height": 8}, {"type": "normalize"}]
    document = {"name": "net", "preprocessing": steps, "calibration": {"path": "cal", "count": 4}} | changes
    return parse_descriptor(json.dumps(document).encode(), "model.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(10):
        write_image(tmp_path / "cal" / f"{i}.png", fake_picture(20, 16, i))
    (tmp_path / "cal" / "notes.txt").write_text("")
    return tmp_path


def test_samples_are_spread_evenly_over_the_folder(root: Path) -> None:
    assert [item.name for item in calibration_samples(described(), root)] == ["0.png", "2.png", "5.png", "7.png"]
    assert len(calibration_samples(described(), root, 100)) == 10
    assert all(item.variant == "" for item in calibration_samples(described(), root))


def test_feeds_are_the_models_own_preprocessing(root: Path) -> None:
    descriptor = described()
    made = list(feeds(descriptor, calibration_samples(descriptor, root), INPUTS))
    assert [list(feed) for feed in made] == [["x"]] * 4
    assert all(feed["x"].shape == (1, 3, 8, 8) and feed["x"].dtype == np.float32 and feed["x"].max() <= 1 for feed in made)


def test_a_corrupt_picture_is_named(root: Path) -> None:
    (root / "cal" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(AxforgeError, match=r"2\.png"):
        list(feeds(described(), calibration_samples(described(), root), INPUTS))


def test_all_corrupt_pictures_are_named_at_once(root: Path) -> None:
    for name in ("2.png", "7.png"):
        (root / "cal" / name).write_bytes(b"broken")
    with pytest.raises(AxforgeError, match=r"2 of 4 calibration samples cannot be used(.|\n)*2\.png: .*damaged(.|\n)*7\.png: .*damaged"):
        list(feeds(described(), calibration_samples(described(), root), INPUTS))


def test_a_picture_that_does_not_fit_is_named(root: Path) -> None:
    descriptor = described(preprocessing=[{"type": "centercrop", "width": 17, "height": 17}])
    with pytest.raises(AxforgeError, match=r"0\.png.*does not fit into a picture of 20x16"):
        list(feeds(descriptor, calibration_samples(descriptor, root), INPUTS))
    wrong = described(preprocessing=[{"type": "resize", "width": 9, "height": 9}])
    with pytest.raises(AxforgeError, match=r"gives shape \[1, 3, 9, 9\]"):
        list(feeds(wrong, calibration_samples(wrong, root), INPUTS))


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AxforgeError, match="AXFORGE_DATA_ROOT"):
        calibration_samples(described(), None)
    with pytest.raises(AxforgeError, match="Put pictures there"):
        calibration_samples(described(), tmp_path)
    (tmp_path / "cal").mkdir()
    with pytest.raises(AxforgeError, match="has no pictures"):
        calibration_samples(described(), tmp_path)
    with pytest.raises(AxforgeError, match="names no calibration data"):
        calibration_samples(described(calibration=None, preprocessing=[]), tmp_path)
    with pytest.raises(AxforgeError, match="0 calibration samples are too few"):
        calibration_samples(described(), tmp_path, 0)


def test_a_model_of_pictures_that_names_no_data_gets_photos(tmp_path: Path) -> None:
    items = calibration_samples(described(calibration=None), tmp_path)
    assert len(items) >= 64
    assert stand_ins(items)
    assert calibration_samples(described(calibration=None), None, 3) == calibration_samples(described(calibration=None), tmp_path, 3)


def test_without_a_data_root_photos_of_packages_do(tmp_path: Path) -> None:
    descriptor = load_descriptor(ZOO / "efficientnet_lite0-imagenet" / "model.json")
    items = calibration_samples(descriptor, None, 12)
    assert items == calibration_samples(descriptor, tmp_path, 12)
    assert len({(item.path, item.variant) for item in items}) == 12
    assert all(item.path.is_file() for item in items)
    a, b = load_sample(items[-1]), load_sample(items[-1])
    assert np.array_equal(a, b)
    assert a.dtype == np.uint8
    assert min(a.shape[:2]) > 50
    inputs = {"input": ((1, 3, 224, 224), "float32")}
    assert len(list(feeds(descriptor, items, inputs))) == 12


def test_crops_of_photos_are_as_many_as_say_something_new_and_read_each_photo_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from axforge.axruntime.media import images

    descriptor = load_descriptor(ZOO / "efficientnet_lite0-imagenet" / "model.json")
    assert len(calibration_samples(descriptor, None)) == 96
    assert len(calibration_samples(descriptor, None, 120)) == 120
    items = [item for item in calibration_samples(descriptor, None, 24) if item.variant]
    opened: list[Path] = []
    read = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path: (opened.append(path), read(path))[1])
    made = [feed["input"] for feed in feeds(descriptor, items, {"input": ((1, 3, 224, 224), "float32")})]
    assert sorted(opened) == sorted({item.path for item in items})
    for item, tensor in zip(items, made, strict=True):
        (alone,) = feeds(descriptor, [item], {"input": ((1, 3, 224, 224), "float32")})
        np.testing.assert_array_equal(alone["input"], tensor)


def test_the_variant_decides_the_row_of_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "cal.npz", x=np.arange(40, dtype=np.int8).reshape(10, 2, 2), y=np.zeros(10, np.int64))
    descriptor = described(calibration={"path": "cal.npz", "count": 5}, preprocessing=[{"type": "normalize", "divisor": 1}])
    items = calibration_samples(descriptor, tmp_path)
    rows = [load_sample(item)[0, 0] // 4 for item in items]
    assert rows == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_a_damaged_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cal.npz").write_bytes(content)
    descriptor = described(calibration={"path": "cal.npz"})
    with pytest.raises(AxforgeError, match=r"cal\.npz.*not an \.npz file"):
        load_sample(calibration_samples(descriptor, tmp_path)[0])
