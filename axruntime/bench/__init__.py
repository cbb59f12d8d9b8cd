"""Measuring how fast an engine runs a model. Importing this package loads nothing.

document.py
    BenchReport: what is measured, as a typed document; `msgspec.json.encode(report)` is what `--json` prints
measure.py
    bench(file: Path, onnx: Path | None, *, threads: int, seconds: float, seed: int) -> BenchReport
    find_model(path: Path) -> Path, find_onnx(model: Path) -> Path | None
worker.py
    the process of one engine, which loads, warms up, and runs rounds on request
timing.py, memory.py
    percentiles, warm-up and timed runs; the memory of a process
report.py
    text(report) -> str

Each engine has a process of its own, so that neither slows the other down by its threads, its memory or its libraries; they run short
rounds by turns, so that a machine that gets slower or faster does it to both. `python -m axforge.axruntime.bench FILE` is the command.
"""
