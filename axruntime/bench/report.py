"""A measurement as text for a terminal."""

from axforge.axruntime.bench.document import BenchReport, EngineFigures

_HEAD = ("engine", "threads", "p50 ms", "p90 ms", "p99 ms", "mean ms", "min ms", "frames/s", "load ms", "memory MB")


def text(report: BenchReport) -> str:
    """The table of engines, and under it what belongs to it."""
    computer = report.computer
    rows = [_HEAD, *(_row(engine) for engine in report.engines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        report.model,
        f"{computer.cpu or computer.architecture}, {computer.cpus} CPUs, {computer.system} {computer.architecture}",
        "",
        *("  ".join((row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)))) for row in rows),
        "",
        *(_detail(engine) for engine in report.engines),
    ]
    if report.ratio is not None:
        r = report.ratio
        lines.append(f"{r.engine} is {r.medians:.2f} times as fast as {r.other} by medians, {r.minima:.2f} times by minima.")
    return "\n".join([*lines, *report.notes])


def _row(engine: EngineFigures) -> tuple[str, ...]:
    times = engine.latency
    shown = (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms, times.min_ms)
    memory = "-" if engine.memory_bytes is None else f"{engine.memory_bytes / 1e6:.1f}"
    rest = (f"{engine.frames_per_second:.1f}", f"{engine.load_ms:.0f}", memory)
    return (engine.engine, str(engine.threads), *(f"{t:.3f}" for t in shown), *rest)


def _detail(engine: EngineFigures) -> str:
    warm = engine.warm_up
    path = f", code path {engine.code_path}" if engine.code_path else ""
    steady = "" if warm.stable else ", and was still getting faster"
    return (
        f"{engine.engine} {engine.version}{path}: {engine.frames} frames in {engine.rounds} rounds, "
        f"after {warm.frames} to warm up ({warm.seconds:.1f} s{steady})"
    )
