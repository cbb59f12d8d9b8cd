"""Which algorithms run, with which options: the configurations of the calibrate and quantize stages, read."""

from collections.abc import Mapping

from axforge.axcompiler.errors import CompileError
from axforge.axcompiler.quantize import algorithms, schemes
from axforge.axcompiler.quantize.algorithm import Algorithm, Phase
from axforge.axcompiler.stages import AlgorithmOptions, CalibrateConfig, Option, QuantizeConfig


def for_calibrate(config: CalibrateConfig) -> list[Algorithm]:
    """The algorithms whose statistics are collected, in the order in which they are applied. Raises CompileError for unknown names."""
    return _chosen({"split_channels": config.split_channels, **config.algorithms})


def for_quantize(config: QuantizeConfig) -> list[Algorithm]:
    """The algorithms of the quantize stage, in the order in which they are applied. Raises CompileError for unknown names."""
    percentile = {"percentile": config.percentile}
    schemes.create("percentile", percentile, "quantize")  # refused whatever the scheme: it is a mistake in any case
    given = config.algorithms.get("clipping", True)
    if given is False:
        return _chosen(config.algorithms)
    clipping: dict[str, Option] = {"scheme": config.scheme} | (given if isinstance(given, dict) else {})
    scheme, options = clipping["scheme"], clipping.get("options", {})
    if isinstance(scheme, str) and isinstance(options, dict) and "percentile" in schemes.options(scheme, "quantize.scheme"):
        clipping["options"] = {**percentile, **options}
    return _chosen({**config.algorithms, "clipping": clipping})


def _chosen(given: Mapping[str, AlgorithmOptions]) -> list[Algorithm]:
    """The algorithms that are on by default or switched on, sorted by phase and name."""
    settings: dict[str, AlgorithmOptions] = {**dict.fromkeys(algorithms.on_by_default(), True), **given}
    created = {
        name: algorithms.create(name, options if isinstance(options, dict) else {}, f"quantize.algorithms.{name}")
        for name, options in settings.items()
    }
    chosen = sorted((a for name, a in created.items() if settings[name] is not False), key=lambda a: (a.phase, a.name))
    if not any(a.phase is Phase.ACTIVATIONS for a in chosen):
        raise CompileError("no algorithm chooses the ranges of activations", where="quantize.algorithms", fix="Leave 'clipping' on.")
    return chosen
