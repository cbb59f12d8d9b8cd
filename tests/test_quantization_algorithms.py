"""The seam for quantization algorithms: what a file of quantize/algorithms or quantize/schemes gets by being there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx_models import image_samples, save, small_net

from axforge.axcompiler import api
from axforge.axcompiler.calibrate import collect
from axforge.axcompiler.check import run as check
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.placement.plan import Plan
from axforge.axcompiler.quantize import choice, quantize
from axforge.axcompiler.quantize.algorithm import ALGORITHMS, Phase, Quantization, QuantizingAlgorithm, algorithm
from axforge.axcompiler.rewrites import REWRITES
from axforge.axcompiler.stages import CALIBRATION, AlgorithmOptions, CalibrateConfig, CheckConfig, QuantizeConfig, silent
from axforge.axcompiler.statistics import STANDARD, STATISTICS, artefacts
from axforge.axcompiler.statistics.artefacts import Statistics
from axforge.axcompiler.statistics.base import F64, Collector, Observation, PlacedStatistic, Sampling, StatisticPoint, statistic


class SquaresCollector(Collector):
    """Sums squares."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, seen: Observation) -> None:
        """Take in one sample."""
        self._sum += float((seen.values.astype(np.float64) ** 2).sum())
        self._count += seen.values.size

    def result(self) -> F64:
        """[1]"""
        return np.asarray([self._sum / self._count])


@dataclass(frozen=True)
class MeanSquare(PlacedStatistic):
    """A statistic that axforge does not have."""

    name: ClassVar[str] = "mean_square"

    @classmethod
    def points(cls, plan: Plan) -> Iterable[StatisticPoint]:
        """One number for every tensor that is measured anyway."""
        return [StatisticPoint(name, cls()) for name in plan.sources]

    @property
    def values(self) -> bool:
        """Needed."""
        return True

    def collector(self, sampling: Sampling) -> SquaresCollector:
        """Empty."""
        return SquaresCollector()


@dataclass(frozen=True)
class Remember(QuantizingAlgorithm):
    """Remembers what was measured for it."""

    name: ClassVar[str] = "remember"
    phase: ClassVar[Phase] = Phase.LAYERS
    needs: ClassVar[tuple[type[PlacedStatistic], ...]] = (MeanSquare,)
    seen: ClassVar[list[tuple[float, dict[str, float]]]] = []
    factor: float = 1.0

    def apply(self, quantization: Quantization, statistics: Statistics) -> None:
        """Remember."""
        assert quantization.layers
        self.seen.append((self.factor, {name: float(v[0]) for name, v in statistics.channels["mean_square"].items()}))


@pytest.fixture
def remember() -> Iterator[type[Remember]]:
    """The algorithm above and its statistic, registered for one test."""
    statistic(MeanSquare)
    algorithm(Remember)
    Remember.seen.clear()
    yield Remember
    del ALGORITHMS._found[Remember.name], STATISTICS._found[MeanSquare.name]


def checked(folder: Path) -> onnx.ModelProto:
    check({"model.onnx": save(small_net(), folder)}, CheckConfig(), folder, silent)
    return onnx.load(folder / "checked.onnx")


def test_an_algorithm_with_its_own_statistic_needs_no_other_code(tmp_path: Path, remember: type[Remember]) -> None:
    proto, samples, config = checked(tmp_path), image_samples(5), QuantizeConfig("mse", algorithms={"remember": {"factor": 2.0}})
    measured = collect(proto, choice.for_calibrate(CalibrateConfig(), config), samples, silent)
    artefacts.save(measured, tmp_path)
    back = artefacts.load(*(tmp_path / name for name in CALIBRATION))
    quantize(proto, back, config)
    ((factor, squares),) = remember.seen
    assert factor == 2.0
    assert set(squares) == set(measured.ranges)
    pixels = np.concatenate([s["x"].reshape(-1) for s in samples]).astype(np.float64)
    assert 0 < squares["centred"] < 10 * (pixels**2).mean()


def test_statistics_that_nobody_needs_leave_no_trace(tmp_path: Path, remember: type[Remember]) -> None:
    proto, samples = checked(tmp_path), image_samples(5)
    plain = collect(proto, CalibrateConfig(), samples, silent)
    more = collect(proto, CalibrateConfig(statistics=("mean_square",)), samples, silent)
    assert set(plain.channels) == {"means"}
    assert set(more.channels) == {"means", "mean_square"}
    del more.channels["mean_square"]
    for name, statistics in (("a", plain), ("b", more)):
        (tmp_path / name).mkdir()
        artefacts.save(statistics, tmp_path / name)
    for artefact in ("ranges.json", "histograms.npz", "samples.npz"):
        assert (tmp_path / "a" / artefact).read_bytes() == (tmp_path / "b" / artefact).read_bytes()
    assert b"channels" not in (tmp_path / "a" / "ranges.json").read_bytes()


def test_an_algorithm_can_be_switched_off() -> None:
    assert [a.name for a in choice.for_quantize(QuantizeConfig())] == ["clipping", "bias_correction"]
    off: dict[str, AlgorithmOptions] = {"bias_correction": False}
    assert [a.name for a in choice.for_quantize(QuantizeConfig(algorithms=off))] == ["clipping"]
    with pytest.raises(CompileError, match="no algorithm chooses the ranges"):
        choice.for_quantize(QuantizeConfig(algorithms={"clipping": False}))


def test_what_calibration_must_know_is_data(remember: type[Remember]) -> None:
    def told(calibrate: CalibrateConfig | None = None, **algorithms: AlgorithmOptions) -> CalibrateConfig:
        return choice.for_calibrate(calibrate or CalibrateConfig(), QuantizeConfig("minmax", algorithms=algorithms))

    plain = CalibrateConfig()
    assert told() == told(bias_correction=False) == told(clipping={"scheme": "per_tensor"}) == plain
    assert told(equalize=False) == told(split_channels=True) == told(split_channels={}) == plain, "as it is by default"
    assert told(split_channels=False) == told(CalibrateConfig(split_channels=False)) == CalibrateConfig(split_channels=False)
    assert told(CalibrateConfig(split_channels=False), split_channels=True) == plain
    assert told(equalize=True) == told(equalize={}) == CalibrateConfig(algorithms={"equalize": True})
    assert told(remember={"factor": 2.0}) == told(remember=True) == CalibrateConfig(statistics=("mean_square",))
    assert told(remember=False) == plain
    own = CalibrateConfig(512, algorithms={"equalize": {"limit": 8.0}, "remember": True})
    known = CalibrateConfig(512, algorithms={"equalize": {"limit": 8.0}}, statistics=("mean_square",))
    assert told(own) == told(known) == known, "what is given for calibrate comes first"
    assert choice.for_calibrate(plain, QuantizeConfig()) == plain


def test_an_algorithm_that_is_on_by_default_needs_standard_statistics_only() -> None:
    """So that a model whose configuration says nothing of quantize need not load the algorithms to know how it is calibrated."""
    needed = {kind for algorithm in ALGORITHMS.values() if algorithm.on for kind in algorithm.needs}
    assert needed <= set(STANDARD)
    assert set(STATISTICS.values()) >= {kind for algorithm in ALGORITHMS.values() for kind in algorithm.needs}


def test_an_algorithm_has_a_name_of_its_own() -> None:
    assert set(ALGORITHMS).isdisjoint(REWRITES)


def test_a_statistic_that_was_not_collected_is_named(tmp_path: Path, remember: type[Remember]) -> None:
    proto = checked(tmp_path)
    measured = collect(proto, CalibrateConfig(), image_samples(2), silent)
    with pytest.raises(CompileError, match="'mean_square', which algorithm 'remember' needs, was not collected"):
        quantize(proto, measured, QuantizeConfig(algorithms={"remember": True}))
    with pytest.raises(CompileError, match=r"no statistic 'mean_sqare'\n.*Did you mean 'mean_square'\?"):
        collect(proto, CalibrateConfig(statistics=("mean_sqare",)), image_samples(2), silent)


def never(model: onnx.ModelProto) -> api.Samples:
    """Samples that nobody may ask for."""
    raise AssertionError("calibration began")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (QuantizeConfig("mes"), r"no range scheme 'mes'\n.*Did you mean 'mse'\? Known range schemes: .*minmax.*percentile"),
        (QuantizeConfig(algorithms={"bias_corection": True}), r"no algorithm 'bias_corection'\n.*'bias_correction'\? Known algorithms: "),
        (QuantizeConfig(algorithms={"clipping": {"sceme": "mse"}}), "has no option 'sceme'\n.*'scheme'"),
        (QuantizeConfig(algorithms={"clipping": {"scheme": 3}}), r"algorithm 'clipping': expected `str`"),
        (QuantizeConfig(algorithms={"clipping": {"options": {"x": 1}}}), "range scheme 'effect' has no option 'x'\n.*percentile"),
        (QuantizeConfig("mse", algorithms={"clipping": {"options": {"x": 1}}}), "range scheme 'mse' has no option 'x'\n.*takes no option"),
        (QuantizeConfig("mse", 20.0), "percentile is 20.0"),
        (QuantizeConfig(algorithms={"equalise": True}), r"no algorithm 'equalise'\n.*Did you mean 'equalize'\?.*bias_correction"),
        (QuantizeConfig(algorithms={"equalize": {"limit": 0.5}}), r"limit is 0\.5"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_before_calibration(config: QuantizeConfig, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        api.compile(small_net(), never, api.Options(quantize=config))


def test_statistics_of_another_configuration_are_refused(tmp_path: Path) -> None:
    proto = checked(tmp_path)
    measured = collect(proto, CalibrateConfig(), image_samples(2), silent)
    measured.decisions["split_channels"] = {"nowhere": [[0], [1]]}
    with pytest.raises(CompileError, match="of another model"):
        quantize(proto, measured, QuantizeConfig())
