"""Kernels over images that keep channels apart: depthwise convolution, pooling, bilinear resize. Vectors run along channels.

The last vector of a pixel overlaps the one before it, so every channel count from the vector's width up needs no remainder code;
smaller counts take a narrower kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass

from axforge.axruntime.engines.host.codegen.epilogue import EPILOGUE, finish, load_epilogue
from axforge.axruntime.engines.host.codegen.kit import Fn, Val, vec
from axforge.axruntime.engines.host.features import Isa

_IMAGE = (
    *("x.base", "x", "y.base", "y", "n", "oh", "ow", "c", "h", "w"),
    *("in_ns", "in_rs", "in_ps", "out_ns", "out_rs", "out_ps"),
)
_WINDOW = ("kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl")
DEPTHWISE = (*_IMAGE, *_WINDOW, "k.base", "k", "bias.base", "bias", "mult.base", "mult", *EPILOGUE)
POOL = (*_IMAGE, *_WINDOW, "zero", "mult.base", "mult", *EPILOGUE)
RESIZE = (*_IMAGE, "zero", "m", "ih.base", "ih", "iw.base", "iw", "wh.base", "wh", "ww.base", "ww", *EPILOGUE)


@dataclass(frozen=True)
class SpatialSpec:
    """op: 'depthwise', 'max', 'average' or 'resize'; width: channels a vector; table: whether the epilogue has one."""

    op: str
    width: int
    table: bool = False


def params(s: SpatialSpec) -> tuple[str, ...]:
    """Names of the kernel's parameters."""
    return {"depthwise": DEPTHWISE, "max": POOL, "average": POOL, "resize": RESIZE}[s.op]


def build(name: str, s: SpatialSpec, isa: Isa) -> Fn:
    """The kernel."""
    f = Fn(name, isa, params(s))
    body: Callable[[Fn, SpatialSpec, dict[str, Val]], Callable[[Val, Val, Val], Callable[[Val], Val]]]
    body = {"depthwise": _depthwise, "max": _max, "average": _average, "resize": _resize}[s.op]
    p = {n: f.param(n) for n in (*_IMAGE[4:], *(_WINDOW if s.op != "resize" else ()))}
    x, y = f.base("x"), f.base("y")
    pixel = body(f, s, p)
    first, last = f.share(p["n"] * p["oh"])
    with f.loop(first, last) as row:
        image, oh = row // p["oh"], row % p["oh"]
        px = f.at(x, image * p["in_ns"])
        py = f.at(y, image * p["out_ns"] + oh * p["out_rs"])
        with f.loop(0, p["ow"]) as ow:
            channel = pixel(px, oh, ow)
            with f.loop(0, p["c"], s.width) as c:
                at = f.min(c, p["c"] - s.width)
                f.store(channel(at), f.at(py, ow * p["out_ps"] + at))
    return f


def _window(f: Fn, p: dict[str, Val], axis: str, o: Val) -> tuple[Val, Val, Val]:
    """Along one axis: position of tap 0, and the range of taps inside the image."""
    size, k, stride, dilation, pad = (p[n] for n in (("h", "kh", "sh", "dh", "pt") if axis == "h" else ("w", "kw", "sw", "dw", "pl")))
    first = o * stride - pad
    low = (f.max(f.c(0) - first, 0) + dilation - 1) // dilation
    high = f.min((f.max(size - first, 0) + dilation - 1) // dilation, k)
    return first, f.min(low, k), high


def _depthwise(f: Fn, s: SpatialSpec, p: dict[str, Val]) -> Callable[[Val, Val, Val], Callable[[Val], Val]]:
    """The border holds the zero point, so every tap counts."""
    weights, bias, mult, e = f.base("k"), f.base("bias"), f.base("mult"), load_epilogue(f, s.table)
    n = s.width

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        px = f.at(x, oh * p["sh"] * p["in_rs"] + ow * p["sw"] * p["in_ps"])

        def channel(c: Val) -> Val:
            acc = f.var(vec(n, "i32"), f.load(vec(n, "i32"), bias, c * 4))
            with f.loop(0, p["kh"]) as kh, f.loop(0, p["kw"]) as kw:
                a = f.load(vec(n, "i8"), px, kh * p["dh"] * p["in_rs"] + kw * p["dw"] * p["in_ps"] + c)
                w = f.load(vec(n, "i8"), weights, (kh * p["kw"] + kw) * p["c"] + c)
                acc.set(acc.get() + a.cast("zext", "i32") * w.cast("sext", "i32"))
            t = acc.get().cast("sitofp", "float") * f.load(vec(n, "float"), mult, c * 4)
            return finish(f, e, [t])[0]

        return channel

    return pixel


def _max(f: Fn, s: SpatialSpec, p: dict[str, Val]) -> Callable[[Val, Val, Val], Callable[[Val], Val]]:
    ty = vec(s.width, "i8")

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        (h0, h_low, h_high), (w0, w_low, w_high) = _window(f, p, "h", oh), _window(f, p, "w", ow)

        def channel(c: Val) -> Val:
            best = f.var(ty, f.c(0, ty))
            with f.loop(h_low, h_high) as kh, f.loop(w_low, w_high) as kw:
                a = f.load(ty, x, (h0 + kh * p["dh"]) * p["in_rs"] + (w0 + kw * p["dw"]) * p["in_ps"] + c)
                old = best.get()
                best.set(f.select(a.cmp("ugt", old), a, old))
            return best.get()

        return channel

    return pixel


def _average(f: Fn, s: SpatialSpec, p: dict[str, Val]) -> Callable[[Val, Val, Val], Callable[[Val], Val]]:
    n, e, mult, zero = s.width, load_epilogue(f, s.table), f.base("mult"), f.param_i32("zero")
    ty = vec(n, "i32")

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        (h0, h_low, h_high), (w0, w_low, w_high) = _window(f, p, "h", oh), _window(f, p, "w", ow)
        count = f.max(h_high - h_low, 0) * f.max(w_high - w_low, 0)
        m = f.load("float", mult, (f.max(count, 1) - 1) * 4)

        def channel(c: Val) -> Val:
            acc = f.var(ty, f.c(0, ty))
            with f.loop(h_low, h_high) as kh, f.loop(w_low, w_high) as kw:
                a = f.load(vec(n, "i8"), x, (h0 + kh) * p["in_rs"] + (w0 + kw) * p["in_ps"] + c)
                acc.set(acc.get() + a.cast("zext", "i32"))
            total = acc.get() - (count.cast("trunc", "i32") * zero).splat(n)
            return finish(f, e, [total.cast("sitofp", "float") * m.splat(n)])[0]

        return channel

    return pixel


def _resize(f: Fn, s: SpatialSpec, p: dict[str, Val]) -> Callable[[Val, Val, Val], Callable[[Val], Val]]:
    n, e, zero, m = s.width, load_epilogue(f, s.table), f.param_i32("zero"), f.param_f32("m")
    tables = {t: f.base(t) for t in ("ih", "iw", "wh", "ww")}

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        rows = [f.load("i32", tables["ih"], (p["oh"] * i + oh) * 4).cast("sext", "i64") * p["in_rs"] for i in range(2)]
        cols = [f.load("i32", tables["iw"], (p["ow"] * i + ow) * 4).cast("sext", "i64") * p["in_ps"] for i in range(2)]
        wy = [f.load("i32", tables["wh"], (p["oh"] * i + oh) * 4) for i in range(2)]
        wx = [f.load("i32", tables["ww"], (p["ow"] * i + ow) * 4) for i in range(2)]

        def channel(c: Val) -> Val:
            total: Val | None = None
            for i in range(2):
                for j in range(2):
                    a = f.load(vec(n, "i8"), x, rows[i] + cols[j] + c).cast("zext", "i32") - zero.splat(n)
                    part = a * (wy[i] * wx[j]).splat(n)
                    total = part if total is None else total + part
            assert total is not None
            return finish(f, e, [total.cast("sitofp", "float") * m.splat(n)])[0]

        return channel

    return pixel
