"""Which algorithms run, with which options, and what calibration must know of them: the configurations of both stages, read."""

from collections.abc import Mapping
from dataclasses import replace

from axforge.axcompiler import rewrites, statistics
from axforge.axcompiler.algorithm import switched_on
from axforge.axcompiler.choices import nearest
from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.quantize import algorithms, schemes
from axforge.axcompiler.quantize.algorithm import Phase, QuantizingAlgorithm
from axforge.axcompiler.stages import AlgorithmOptions, CalibrateConfig, Option, QuantizeConfig

Settings = dict[str, AlgorithmOptions]


def for_quantize(config: QuantizeConfig) -> list[QuantizingAlgorithm]:
    """The algorithms of the quantize stage, in the order in which they are applied. Raises CompileError for what is unknown or wrong."""
    rewriting, quantizing = _by_stage(config.algorithms)
    switched_on(rewrites.REWRITES, rewriting)
    chosen = switched_on(algorithms.ALGORITHMS, {**quantizing, "clipping": _clipping(config)})
    if not any(a.phase is Phase.ACTIVATIONS for a in chosen):
        raise CompileError("no algorithm chooses the ranges of activations", where="quantize.algorithms", fix="Leave 'clipping' on.")
    return sorted(chosen, key=lambda a: (a.phase, a.name))


def for_calibrate(calibrate: CalibrateConfig, quantize: QuantizeConfig) -> CalibrateConfig:
    """The configuration of calibrate that serves `quantize`: the algorithms that rewrite the model, and the statistics that others need.

    What is given in `calibrate` comes first. Equal needs give equal configurations, however they were written. Raises CompileError for
    whatever of `quantize` that stage would refuse, which would be a pity to hear after the calibration.
    """
    for_quantize(quantize)
    given = {**quantize.algorithms, **calibrate.algorithms}
    needed = {kind for algorithm in for_quantize(replace(quantize, algorithms=given)) for kind in algorithm.needs}
    names = {kind.name for kind in needed - {*statistics.STANDARD}}
    rewriting, _ = _by_stage(given)
    split = rewriting.pop("split_channels", calibrate.split_channels) is not False
    plain: Settings = {name: options if options != {} else True for name, options in rewriting.items()}
    others = {name: options for name, options in plain.items() if options != rewrites.REWRITES[name].on}
    return replace(calibrate, split_channels=split, algorithms=others, statistics=tuple(sorted({*calibrate.statistics, *names})))


def _by_stage(given: Mapping[str, AlgorithmOptions]) -> tuple[Settings, Settings]:
    """Settings of algorithms that rewrite the model, and of those of the quantize stage. Raises CompileError for an unknown name."""
    for name in given:
        if name not in rewrites.REWRITES and name not in algorithms.ALGORITHMS:
            fix = nearest(name, [*rewrites.REWRITES, *algorithms.ALGORITHMS], "algorithm")
            raise CompileError(f"there is no algorithm '{name}'", where=f"quantize.algorithms.{name}", fix=fix)
    rewriting = {name: options for name, options in given.items() if name in rewrites.REWRITES}
    return rewriting, {name: options for name, options in given.items() if name not in rewriting}


def _clipping(config: QuantizeConfig) -> AlgorithmOptions:
    """The setting of 'clipping': the scheme of the stage's own options, unless it is given for the algorithm."""
    percentile = {"percentile": config.percentile}
    schemes.create("percentile", percentile, "quantize")  # refused whatever the scheme: it is a mistake in any case
    given = config.algorithms.get("clipping", True)
    if given is False:
        return False
    clipping: dict[str, Option] = {"scheme": config.scheme, "effort": config.effort} | (given if isinstance(given, dict) else {})
    scheme, options = clipping["scheme"], clipping.get("options", {})
    if isinstance(scheme, str) and isinstance(options, dict):
        known = schemes.resolved(scheme, "quantize.scheme")
        if known == schemes.EFFECT or "percentile" in schemes.options(known, "quantize.scheme"):
            clipping["options"] = {**percentile, **options}
    return clipping
