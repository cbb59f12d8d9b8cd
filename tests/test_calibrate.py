"""calibrate: extremes and a histogram of each tensor in one pass, the same bytes again from the same samples."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from onnx_models import image_samples, model, save, small_net

from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.calibrate import run as calibrate
from axforge.axcompiler.calibrate.arrays import ArraySamples
from axforge.axcompiler.calibrate.collect import MAX_PROBE_BATCHES, SAMPLES_EACH
from axforge.axcompiler.calibrate.probe import MAX_VALUES, stride_for
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import AxforgeError, CompileError
from axforge.axcompiler.placement.plan import make_plan
from axforge.axcompiler.stages import CALIBRATION, CalibrateConfig, CheckConfig, silent
from axforge.axcompiler.statistics import artefacts
from axforge.axcompiler.statistics.histogram import Histogram

Array = NDArray[Any]


def checked(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    check({"model.onnx": save(proto, folder)}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx")


def all_values(proto: onnx.ModelProto, names: list[str], samples: list[dict[str, Array]]) -> dict[str, Array]:
    """Every value of the tensors over the samples."""
    import onnxruntime as ort

    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.output[:]
    wide.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names)
    session = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, s) for s in samples]
    return {n: np.stack([r[i] for r in runs]) for i, n in enumerate(names)}


def test_extremes_are_exact_and_only_what_needs_a_range_is_measured(tmp_path: Path) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(5)
    result = collect(proto, CalibrateConfig(), samples, silent)
    # the pool, the concatenation and the flattening share a range; conv1 is clipped by its Relu
    assert set(result.ranges) == {"centred", "r1", "c2", "a2", "g", "logits"}
    seen = all_values(proto, sorted(result.ranges), samples)
    for name, measured in result.ranges.items():
        assert (measured.lo, measured.hi) == (seen[name].min(), seen[name].max())


def test_histogram_counts_every_value_of_small_tensors(tmp_path: Path) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(5)
    h = collect(proto, CalibrateConfig(), samples, silent).ranges["c2"].histogram
    values = all_values(proto, ["c2"], samples)["c2"].reshape(-1)
    edges = np.ldexp(h.first + np.arange(len(h.counts) + 1.0), h.exponent)
    assert len(h.counts) <= 2048
    np.testing.assert_array_equal(h.counts, np.histogram(values, edges)[0])


def test_channel_means_of_what_layers_multiply(tmp_path: Path) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(5)
    means = collect(proto, CalibrateConfig(), samples, silent).channels["means"]
    values = all_values(proto, ["centred", "r1"], samples)
    assert {"centred", "r1"} <= set(means)
    for name in ("centred", "r1"):
        np.testing.assert_allclose(means[name], values[name].mean(axis=(0, 1, 3, 4)), rtol=1e-4, atol=1e-6)


def test_few_samples_at_a_time(tmp_path: Path) -> None:
    proto = checked(small_net(), tmp_path)
    alive = 0

    def stream() -> Iterator[dict[str, Array]]:
        nonlocal alive
        for sample in image_samples(4) * 10:
            alive += 1
            yield sample

    seen: list[tuple[int, int]] = []
    collect(proto, CalibrateConfig(), stream(), lambda done, total, note: seen.append((done, alive)))
    assert [done for done, _ in seen] == list(range(1, 41))
    assert all(drawn <= done + 2 for done, drawn in seen), "one waits, and one is computed"


def test_artefacts_are_the_same_bytes_again_and_come_back(tmp_path: Path) -> None:
    proto = small_net()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        checked(proto, tmp_path / name)
        inputs = {"checked.onnx": tmp_path / name / "checked.onnx"}
        calibrate(inputs, CalibrateConfig(), tmp_path / name, silent, samples=image_samples(3))
    for artefact in ("ranges.json", "histograms.npz", "samples.npz"):
        assert (tmp_path / "a" / artefact).read_bytes() == (tmp_path / "b" / artefact).read_bytes()
    back = artefacts.load(*(tmp_path / "a" / name for name in CALIBRATION))
    artefacts.save(back, tmp_path)
    for artefact in ("ranges.json", "histograms.npz", "samples.npz"):
        assert (tmp_path / artefact).read_bytes() == (tmp_path / "a" / artefact).read_bytes()


def test_order_of_samples_does_not_matter_to_ranges(tmp_path: Path) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(6)
    a, b = (collect(proto, CalibrateConfig(), s, silent) for s in (samples, samples[::-1]))
    for name, one in a.ranges.items():
        other = b.ranges[name]
        assert (one.lo, one.hi) == (other.lo, other.hi)
        np.testing.assert_array_equal(one.histogram.counts, other.histogram.counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(tmp_path: Path, bad: float) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(3)
    samples[1]["x"][0, 0, 3, 3] = bad
    with pytest.raises(CompileError, match=r"tensor '\w+' is not finite .* in sample 1"):
        collect(proto, CalibrateConfig(), samples, silent)


def test_masks_of_minus_infinity_are_noted(tmp_path: Path) -> None:
    constants = {"mask": np.asarray([0, -np.inf, 0], np.float32)}
    proto = model(
        [helper.make_node("Add", ["x", "mask"], ["m"]), helper.make_node("Softmax", ["m"], ["y"])], {"x": [2, 3]}, ["y"], constants
    )
    result = collect(checked(proto, tmp_path), CalibrateConfig(), [{"x": np.ones((2, 3), np.float32)}], silent)
    assert result.masked == {"m"}
    plan = make_plan(onnx.load(tmp_path / "checked.onnx"), (), result.masked)
    assert not plan.aipu


def test_no_samples_and_wrong_samples_are_errors(tmp_path: Path) -> None:
    proto = checked(small_net(), tmp_path)
    with pytest.raises(CompileError, match="no calibration samples"):
        collect(proto, CalibrateConfig(), [], silent)
    with pytest.raises(CompileError, match="has the inputs image; the model has x"):
        collect(proto, CalibrateConfig(), image_samples(1, name="image"), silent)
    with pytest.raises(CompileError, match=r"shape \[1, 16, 16, 3\] and must have \[1, 3, 16, 16\]"):
        collect(proto, CalibrateConfig(), image_samples(1, (1, 16, 16, 3)), silent)


def test_damaged_artefacts_are_an_error(tmp_path: Path) -> None:
    checked(small_net(), tmp_path)
    calibrate({"checked.onnx": tmp_path / "checked.onnx"}, CalibrateConfig(), tmp_path, silent, samples=image_samples(2))
    document = json.loads((tmp_path / "ranges.json").read_bytes())
    del document["tensors"]["c2"]
    (tmp_path / "ranges.json").write_text(json.dumps(document))
    with pytest.raises(CompileError, match="damaged"):
        artefacts.load(*(tmp_path / name for name in CALIBRATION))


floats = st.floats(-1e6, 1e6, width=32).map(lambda v: 0.0 if abs(v) < 1e-30 else v)


@given(st.lists(st.lists(floats, min_size=1, max_size=20), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_histogram_is_the_same_in_any_order(parts: list[list[float]], random: Any) -> None:
    arrays = [np.asarray(p, np.float32) for p in parts]

    def counted(order: list[Array]) -> Histogram:
        h = Histogram.empty(64)
        for a in order:
            h.add(a, float(a.min()), float(a.max()))
        return h

    one = counted(arrays)
    shuffled = list(arrays)
    random.shuffle(shuffled)
    other = counted(shuffled)
    assert (one.exponent, one.first, one.counts.tolist()) == (other.exponent, other.first, other.counts.tolist())
    assert one.counts.sum() == sum(map(len, arrays))
    assert len(one.counts) <= 64
    values = np.concatenate(arrays)
    edges = np.ldexp(one.first + np.arange(len(one.counts) + 1.0), one.exponent)
    np.testing.assert_array_equal(one.counts, [((values >= a) & (values < b)).sum() for a, b in pairwise(edges)])


@given(st.integers(1, 10**6), st.integers(1, 2000))
def test_stride_is_prime_to_the_rows(rows: int, row: int) -> None:
    step = stride_for(rows, row)
    assert step >= rows or np.gcd(step, rows) == 1
    assert -(-rows // step) * row <= max(MAX_VALUES, row) + row


def test_arrays_in_files(tmp_path: Path) -> None:
    x = np.arange(5 * 3 * 2 * 2, dtype=np.float32).reshape(5, 3, 2, 2)
    np.save(tmp_path / "b.npy", x[3:])
    np.savez(tmp_path / "a.npz", x=x[:3, None])
    samples = ArraySamples([tmp_path], {"x": (1, 3, 2, 2)})
    assert len(samples) == 5
    np.testing.assert_array_equal(np.concatenate([s["x"] for s in samples]), x)


def test_arrays_in_bad_files(tmp_path: Path) -> None:
    shapes = {"x": (1, 3, 2, 2)}
    with pytest.raises(AxforgeError, match="no such calibration file"):
        ArraySamples([tmp_path / "none"], shapes)
    with pytest.raises(AxforgeError, match=r"no \.npy or \.npz file"):
        ArraySamples([tmp_path], shapes)
    (tmp_path / "t.npz").write_bytes(b"PK nonsense")
    with pytest.raises(AxforgeError, match="cannot be read"):
        ArraySamples([tmp_path / "t.npz"], shapes)
    np.savez(tmp_path / "n.npz", y=np.zeros((1, 3, 2, 2)))
    with pytest.raises(AxforgeError, match="the file holds y; the model's inputs are x"):
        ArraySamples([tmp_path / "n.npz"], shapes)
    np.save(tmp_path / "s.npy", np.zeros((1, 2, 2, 3)))
    with pytest.raises(AxforgeError, match="has shape"):
        ArraySamples([tmp_path / "s.npy"], shapes)


def test_many_samples_are_shared_out_and_inputs_are_measured_in_all(tmp_path: Path) -> None:
    proto, samples = checked(small_net(), tmp_path), image_samples(MAX_PROBE_BATCHES * SAMPLES_EACH)
    for i, sample in enumerate(samples):
        sample["x"] *= 1 + i / 50  # so that extremes differ with the samples
    result = collect(proto, CalibrateConfig(), samples, silent)
    names = list(result.ranges)
    seen = all_values(proto, names, samples)
    whole = collect(proto, CalibrateConfig(), iter(samples), silent)
    batches = set()
    for name in names:
        values, measured = seen[name], result.ranges[name]
        parts = [values[k::MAX_PROBE_BATCHES] for k in range(MAX_PROBE_BATCHES)]
        fits = [k for k, part in enumerate(parts) if (measured.lo, measured.hi) == (part.min(), part.max())]
        batches.update(fits)
        assert fits, name
        assert (whole.ranges[name].lo, whole.ranges[name].hi) == (values.min(), values.max())
    assert len(batches) > 1
    assert result.samples == len(samples)


def test_inputs_and_results_are_exact_over_all_samples(tmp_path: Path) -> None:
    weight = np.ones((2, 3, 1, 1), np.float32)
    proto = checked(model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 16, 16]}, ["y"], {"w": weight}), tmp_path)
    samples = image_samples(MAX_PROBE_BATCHES * SAMPLES_EACH)
    for i in (0, 1, 2, 3):
        samples[i]["x"][0, 0, 0, i] = 10.0 * (i + 1)
    ranges = collect(proto, CalibrateConfig(), samples, silent).ranges
    assert (ranges["x"].lo, ranges["x"].hi) == (min(float(s["x"].min()) for s in samples), 40.0)
    results = all_values(proto, ["y"], samples)["y"]
    assert (ranges["y"].lo, ranges["y"].hi) == (results.min(), results.max())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_pixel_of_a_large_input_is_found(tmp_path: Path, bad: float) -> None:
    proto = checked(small_net(size=96), tmp_path)
    for pixel in (0, 1234, 96 * 96 - 1):
        samples = image_samples(2, (1, 3, 96, 96))
        samples[1]["x"].reshape(3, -1)[2, pixel] = bad
        with pytest.raises(CompileError, match=r"tensor 'x' is not finite .* in sample 1"):
            collect(proto, CalibrateConfig(), samples, silent)
