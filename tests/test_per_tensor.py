"""The range scheme that chooses for each tensor: never worse by its own measure, and different schemes for different tensors."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx_models import image_samples, run, small_net

from axforge.axcompiler import api
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.quantize import schemes
from axforge.axcompiler.quantize.range_scheme import Bounds
from axforge.axcompiler.quantize.schemes.per_tensor import rounded
from axforge.axcompiler.stages import QuantizeConfig
from axforge.axcompiler.statistics.base import Range
from axforge.axcompiler.statistics.histogram import Histogram

#: values of one tensor; so many that cutting off one of them costs less, in squares, than coarser steps for all others
SIZE = 400_000
Values = NDArray[np.float64]


def measured(values: Values) -> Range:
    single = values.astype(np.float32)
    lo, hi = float(single.min()), float(single.max())  # of what is counted: rounding may exceed the extremes of `values`
    histogram = Histogram.empty(2048)
    histogram.add(single, lo, hi)
    return Range(lo, hi, histogram)


def bounds_of(values: Values) -> dict[str, Bounds]:
    return {name: schemes.create(name, {}, "").choose(measured(values)) for name in ("minmax", "percentile", "mse", "per_tensor")}


def tailed(rare: int, reach: float) -> Values:
    """Normal values, `rare` of them far away."""
    values = np.random.default_rng(0).normal(size=SIZE)
    values[:rare] = reach
    return values


def test_the_tail_is_kept_where_it_matters_and_only_there() -> None:
    far = bounds_of(tailed(1, 15.0))
    assert far["mse"][1] < 10
    assert far["per_tensor"] == far["minmax"]
    near = bounds_of(tailed(0, 0.0))
    assert near["per_tensor"] == near["percentile"] != near["minmax"]
    squared = schemes.create("per_tensor", {"power": 2.0}, "").choose(measured(tailed(1, 15.0)))
    assert squared == far["mse"]


@settings(max_examples=10, deadline=None)
@example(rare=1, reach=4.999999999999972, power=2.0)
@given(st.integers(0, 400), st.floats(1.0, 200.0), st.floats(2.0, 6.0))
def test_no_other_scheme_is_better_by_its_measure(rare: int, reach: float, power: float) -> None:
    values = tailed(rare, reach)
    found = bounds_of(values) | {"per_tensor": schemes.create("per_tensor", {"power": power}, "").choose(measured(values))}
    centres = measured(values).histogram.centres()
    counts = measured(values).histogram.counts
    errors = {name: float((np.abs(rounded(centres, b) - centres) ** power) @ counts) for name, b in found.items()}
    assert errors["per_tensor"] == min(errors.values())


def test_a_tensor_of_zeros_has_a_range() -> None:
    assert schemes.create("per_tensor", {}, "").choose(measured(np.zeros(9))) == (0.0, 0.0)


def test_options_come_from_the_configuration() -> None:
    proto, samples = small_net(), image_samples(20)
    config = QuantizeConfig("per_tensor", algorithms={"clipping": {"options": {"power": 4.0}}})
    compiled = api.compile(proto, samples, api.Options(quantize=config))
    assert np.abs(compiled.run(samples[0])["y"] - run(proto, samples[0])["y"]).max() < 0.02
    bad = QuantizeConfig("per_tensor", algorithms={"clipping": {"options": {"power": 0.5}}})
    with pytest.raises(CompileError, match=r"the power is 0\.5"):
        api.compile(proto, samples, api.Options(quantize=bad))
