"""What `axmodel` prints: an `.axmodel` for people."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from axforge.axcompiler.ir import Graph, Island
from axforge.axcompiler.numerics import Array
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.sim.cycles import Cycles, count_cycles
from axforge.axruntime.prediction.boards import Prediction, predict


def table(rows: Iterable[Sequence[object]], head: Sequence[str]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [list(row) for row in rows]
    body = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in cells]
    right = [bool(cells) and all(isinstance(row[i], int) for row in cells) for i in range(len(head))]
    widths = [max(len(head[i]), *(len(r[i]) for r in body)) if body else len(head[i]) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in ([*head], *body)
    )


def _tensors(model: AxModel, names: Iterable[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in names:
        t = model.graph.tensors[name]
        quant = f"scale {t.quant.scale:.6g}, zero point {t.quant.zero_point}" if t.quant else ""
        port = model.ports.get(name)
        rows.append((name, t.dtype, "x".join(map(str, t.shape)), "x".join(map(str, port.shape)) if port else "", quant))
    return rows


def dump(model: AxModel) -> str:
    """The file on a page or two."""
    m, cycles = model.meta, count_cycles(model.program, model.target)
    head = ("tensor", "type", "shape", "padded NHWC", "quantization")
    memory = model.schedule.get("memory")
    parts = [
        f"{m.name}: for {m.target} with {m.cores} core{'s' if m.cores > 1 else ''}, made by axforge {m.sdk_version}",
        "inputs\n" + table(_tensors(model, model.graph.inputs), head),
        "outputs\n" + table(_tensors(model, model.graph.outputs), head),
        "sections\n" + table(sorted(model.sizes.items()), ("section", "bytes")),
        "memory\n"
        + table(sorted((k, v) for k, v in (memory if isinstance(memory, dict) else {}).items() if isinstance(v, int)), ("what", "bytes")),
        "layers\n" + _layers(model, cycles),
        f"a frame: {cycles.total:,} cycles, {cycles.total / cycles.clock_hz * 1e3:.3f} ms, about {cycles.frames_per_second:,.0f} frames/s, "
        f"{cycles.utilisation:.1%} of the arrays' peak, {cycles.latency_ms:.3f} ms with transfers (cycle model, see docs/aipu.md)",
        *_predicted(predict(model.graph, model.program, model.target)),
    ]
    return "\n\n".join(parts)


def _predicted(predictions: Sequence[Prediction]) -> list[str]:
    """The lines on the vendor's boards, together."""
    return ["\n".join(f"predicted: {one}" for one in predictions)] if predictions else []


def _layers(model: AxModel, cycles: Cycles) -> str:
    rows = []
    for op, layer in zip(model.graph.ops, cycles.layers, strict=True):
        where = f"CPU: {op.reason}" if isinstance(op, Island) else "x".join(map(str, model.graph.tensors[op.outputs[0]].shape))
        used = f"{cycles.layer_utilisation(layer):.1%}"
        rows.append((op.name, type(op).__name__, where, layer.macs, layer.cycles, used))
    return table(rows, ("layer", "operator", "result", "MAC", "cycles", "of peak"))


def as_json(model: AxModel) -> str:
    """The same for programs."""
    cycles, predicted = count_cycles(model.program, model.target), predict(model.graph, model.program, model.target)
    document = {
        "meta": model.meta,
        "sections": model.sizes,
        "ports": model.ports,
        "schedule": model.schedule,
        "cycles": {
            "total": cycles.total,
            "frames_per_second": cycles.frames_per_second,
            "utilisation": cycles.utilisation,
            "latency_ms": cycles.latency_ms,
            "layers": cycles.layers,
        },
        "predicted": {p.board.name: {"low": p.low, "likely": p.likely, "high": p.high} for p in predicted},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


def verdict(model: AxModel) -> str:
    """One line on a file that is sound."""
    counts = sum(len(s) for s in model.program.streams)
    weights = sum(v.nbytes for v in model.graph.constants.values())
    return (
        f"{model.path}: sound. {model.meta.name}, {len(model.graph.ops)} layers, {len(model.graph.islands)} islands, "
        f"{counts:,} instructions on {model.meta.cores} cores, {weights:,} bytes of constants"
    )


# ---------------------------------------------------------------- differences


def differences(a: AxModel, b: AxModel) -> list[str]:
    """What differs between two models, one line each; nothing if they are equal bit for bit."""
    lines = []
    for field in ("name", "sdk_version", "target", "cores"):
        x, y = getattr(a.meta, field), getattr(b.meta, field)
        if x != y:
            lines.append(f"{field}: {x} -> {y}")
    lines += _graph_differences(a.graph, b.graph)
    if a.sizes["program"] != b.sizes["program"] or a.meta.provenance.get("program") != b.meta.provenance.get("program"):
        counts = [[len(s) for s in m.program.streams] for m in (a, b)]
        lines.append(f"program: instructions of each core {counts[0]} -> {counts[1]}")
        cycles = [count_cycles(m.program, m.target).total for m in (a, b)]
        lines.append(f"program: cycles {cycles[0]:,} -> {cycles[1]:,}")
    return lines


def _graph_differences(a: Graph, b: Graph) -> list[str]:
    lines = []
    ops = ({op.name: op for op in g.ops} for g in (a, b))
    for kind, (x, y) in (
        ("layer", tuple(ops)),
        ("tensor", (a.tensors, b.tensors)),
        ("constant", (a.constants, b.constants)),
        ("island", (a.islands, b.islands)),
    ):
        lines += [f"{kind} '{n}': only in the first" for n in x if n not in y]
        lines += [f"{kind} '{n}': only in the second" for n in y if n not in x]
        lines += [f"{kind} '{n}': {_change(x[n], y[n])}" for n in x if n in y and not _same(x[n], y[n])]
    for field in ("inputs", "outputs"):
        if getattr(a, field) != getattr(b, field):
            lines.append(f"{field}: {', '.join(getattr(a, field))} -> {', '.join(getattr(b, field))}")
    return lines


def _same(x: object, y: object) -> bool:
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    return x == y


def _change(x: object, y: object) -> str:
    """How two things of one name differ, in a few words."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return _array_change(x, y)
    if isinstance(x, bytes) and isinstance(y, bytes):
        return f"{len(x):,} -> {len(y):,} bytes, other content"
    if type(x) is not type(y):
        return f"{type(x).__name__} -> {type(y).__name__}"
    fields = getattr(x, "__struct_fields__", ())
    return "; ".join(f"{f} {getattr(x, f)} -> {getattr(y, f)}" for f in fields if getattr(x, f) != getattr(y, f))


def _array_change(x: Array, y: Array) -> str:
    if x.shape != y.shape or x.dtype != y.dtype:
        return f"{x.dtype}{list(x.shape)} -> {y.dtype}{list(y.shape)}"
    changed = np.flatnonzero(x.reshape(-1) != y.reshape(-1))
    gap = np.abs(x.astype(np.float64) - y.astype(np.float64)).max()
    return f"{len(changed):,} of {x.size:,} values differ, by at most {gap:g}"
