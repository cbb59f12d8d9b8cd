"""Kernels over images that keep channels apart: depthwise convolution, pooling, bilinear resize. Vectors run along channels.

The last vector of a pixel overlaps the one before it, so every channel count from the vector's width up needs no remainder code;
smaller counts take a narrower kernel.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar

import msgspec
import numpy as np

from axforge.axcompiler.strides import span
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams, Finish, finish, load_epilogue
from axforge.axruntime.engines.host.codegen.families import kernel
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kit import Fn, Param, Val, vec
from axforge.axruntime.engines.host.codegen.params import A, Extent, I, ParameterGroup, Params, R, Ref, TableRef

#: given an image's address and an output position: a function from a channel to the codes of the vector there
Pixel = Callable[[Val, Val, Val], Callable[[Val], Val]]


class SpatialSpec(msgspec.Struct, frozen=True):
    """width: channels of a vector; table: whether the epilogue has one."""

    width: int
    table: bool = False


class ImageParams(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """x, y: images of c channels, h x w and oh x ow pixels; in_*, out_*: distances of images, rows and pixels in bytes."""

    x: A
    y: A
    n: I
    oh: I
    ow: I
    c: I
    h: I
    w: I
    in_ns: I
    in_rs: I
    in_ps: I
    out_ns: I
    out_rs: I
    out_ps: I

    def written(self: "ImageParams[Ref, int, np.float32]") -> Extent:
        """The bytes of y."""
        strides = (self.out_ns, self.out_rs, self.out_ps, 1)
        return Extent(self.y, *span((self.n, self.oh, self.ow, self.c), strides), writes=True)

    def inside(self: "ImageParams[Ref, int, np.float32]") -> Extent:
        """The bytes of x, for windows that are cut off at the image's edge."""
        return Extent(self.x, *span((self.n, self.h, self.w, self.c), (self.in_ns, self.in_rs, self.in_ps, 1)))


class WindowParams(ParameterGroup[A, I, R], frozen=True, kw_only=True):
    """Kernel size, strides, dilations, and the padding above and to the left."""

    kh: I
    kw: I
    sh: I
    sw: I
    dh: I
    dw: I
    pt: I
    pl: I


def _rows(f: Fn, s: SpatialSpec, p: ImageParams[Val, Val, Val], pixel: Pixel) -> None:
    """The loops of every kernel here; threads share rows of the result."""
    first, last = f.share(p.n * p.oh)
    with f.loop(first, last) as row:
        image, oh = row // p.oh, row % p.oh
        px = f.at(p.x, image * p.in_ns)
        py = f.at(p.y, image * p.out_ns + oh * p.out_rs)
        with f.loop(0, p.ow) as ow:
            channel = pixel(px, oh, ow)
            with f.loop(0, p.c, s.width) as c:
                at = f.min(c, p.c - s.width)
                f.store(channel(at), f.at(py, ow * p.out_ps + at))


Axis = tuple[Val, Val, Val]


def _window(f: Fn, image: ImageParams[Val, Val, Val], p: WindowParams[Val, Val, Val], oh: Val, ow: Val) -> tuple[Axis, Axis]:
    """Along both axes: position of tap 0, and the range of taps inside the image."""
    return (_taps(f, image.h, (p.kh, p.sh, p.dh, p.pt), oh), _taps(f, image.w, (p.kw, p.sw, p.dw, p.pl), ow))


def _taps(f: Fn, size: Val, window: tuple[Val, Val, Val, Val], o: Val) -> Axis:
    k, stride, dilation, pad = window
    first = o * stride - pad
    low = (f.max(f.c(0) - first, 0) + dilation - 1) // dilation
    high = f.min((f.max(size - first, 0) + dilation - 1) // dilation, k)
    return first, f.min(low, k), high


class DepthwiseBytesParams(Params[A, I, R], frozen=True, kw_only=True):
    """image.x: tap 0 of the first output pixel; k: int8 weights [KH, KW, C]; bias: int32 [C]; mult: float32 [C]."""

    family: ClassVar[str] = "spatial:depthwise"
    spec: SpatialSpec
    image: ImageParams[A, I, R]
    window: WindowParams[A, I, R]
    k: A
    bias: A
    mult: A
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "DepthwiseBytesParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        m, w = self.image, self.window
        shape = (m.n, m.oh, m.ow, w.kh, w.kw, m.c)
        strides = (m.in_ns, w.sh * m.in_rs, w.sw * m.in_ps, w.dh * m.in_rs, w.dw * m.in_ps, 1)
        yield Extent(m.x, *span(shape, strides))
        yield m.written()
        yield Extent(self.k, 0, w.kh * w.kw * m.c)
        yield Extent(self.bias, 0, 4 * m.c)
        yield Extent(self.mult, 0, 4 * m.c)
        yield from self.epilogue.extents()


@kernel(DepthwiseBytesParams)
def depthwise(f: Fn, params: DepthwiseBytesParams[Param, Param, Param]) -> None:
    """The border holds the zero point, so every tap counts."""
    p: DepthwiseBytesParams[Val, Val, Val] = f.values(params)
    m, w, n = p.image, p.window, p.spec.width
    e = load_epilogue(f, p.epilogue, Finish(p.spec.table))

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        px = f.at(x, oh * w.sh * m.in_rs + ow * w.sw * m.in_ps)

        def channel(c: Val) -> Val:
            acc = f.var(vec(n, "i32"), f.load(vec(n, "i32"), p.bias, c * 4))
            with f.loop(0, w.kh) as kh, f.loop(0, w.kw) as kw:
                a = f.load(vec(n, "i8"), px, kh * w.dh * m.in_rs + kw * w.dw * m.in_ps + c)
                weight = f.load(vec(n, "i8"), p.k, (kh * w.kw + kw) * m.c + c)
                if f.isa.arm:
                    # one smull and two saddw for eight channels
                    product = a.bits("xor", -128).cast("sext", "i16") * weight.cast("sext", "i16")
                    acc.set(acc.get() + product.cast("sext", "i32"))
                else:
                    acc.set(acc.get() + a.cast("zext", "i32") * weight.cast("sext", "i32"))
            t = acc.get().cast("sitofp", "float") * f.load(vec(n, "float"), p.mult, c * 4)
            return finish(f, e, [t])[0]

        return channel

    _rows(f, p.spec, m, pixel)


class MaxPoolParams(Params[A, I, R], frozen=True, kw_only=True):
    """The largest code of each window."""

    family: ClassVar[str] = "spatial:max"
    spec: SpatialSpec
    image: ImageParams[A, I, R]
    window: WindowParams[A, I, R]

    def extents(self: "MaxPoolParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        yield self.image.inside()
        yield self.image.written()


@kernel(MaxPoolParams)
def max_pool(f: Fn, params: MaxPoolParams[Param, Param, Param]) -> None:
    """Taps outside the image do not count."""
    p: MaxPoolParams[Val, Val, Val] = f.values(params)
    m, w, ty = p.image, p.window, vec(p.spec.width, "i8")

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        (h0, h_low, h_high), (w0, w_low, w_high) = _window(f, m, w, oh, ow)

        def channel(c: Val) -> Val:
            best = f.var(ty, f.c(0, ty))
            with f.loop(h_low, h_high) as kh, f.loop(w_low, w_high) as kw:
                a = f.load(ty, x, (h0 + kh * w.dh) * m.in_rs + (w0 + kw * w.dw) * m.in_ps + c)
                old = best.get()
                best.set(f.select(a.cmp("ugt", old), a, old))
            return best.get()

        return channel

    _rows(f, p.spec, m, pixel)


class AveragePoolParams(Params[A, I, R], frozen=True, kw_only=True):
    """zero: zero_point + 128; mult: float32 multipliers for windows of 1, 2, ... taps inside the image."""

    family: ClassVar[str] = "spatial:average"
    spec: SpatialSpec
    image: ImageParams[A, I, R]
    window: WindowParams[A, I, R]
    zero: I
    mult: A
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "AveragePoolParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        yield self.image.inside()
        yield self.image.written()
        yield Extent(self.mult, 0, 4 * self.window.kh * self.window.kw)
        yield from self.epilogue.extents()


@kernel(AveragePoolParams)
def average_pool(f: Fn, params: AveragePoolParams[Param, Param, Param]) -> None:
    """Taps outside the image do not count; there are no dilations."""
    p: AveragePoolParams[Val, Val, Val] = f.values(params)
    m, n, zero = p.image, p.spec.width, p.zero.cast("trunc", "i32")
    e, ty = load_epilogue(f, p.epilogue, Finish(p.spec.table)), vec(n, "i32")

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        (h0, h_low, h_high), (w0, w_low, w_high) = _window(f, m, p.window, oh, ow)
        count = f.max(h_high - h_low, 0) * f.max(w_high - w_low, 0)
        scale = f.load("float", p.mult, (f.max(count, 1) - 1) * 4)

        def channel(c: Val) -> Val:
            acc = f.var(ty, f.c(0, ty))
            with f.loop(h_low, h_high) as kh, f.loop(w_low, w_high) as kw:
                a = f.load(vec(n, "i8"), x, (h0 + kh) * m.in_rs + (w0 + kw) * m.in_ps + c)
                acc.set(acc.get() + a.cast("zext", "i32"))
            total = acc.get() - (count.cast("trunc", "i32") * zero).splat(n)
            return finish(f, e, [total.cast("sitofp", "float") * scale.splat(n)])[0]

        return channel

    _rows(f, p.spec, m, pixel)


class ResizeParams(Params[A, I, R], frozen=True, kw_only=True):
    """zero: zero_point + 128; scale: multiplier of the sums.

    index_*, weight_*: int32 [2, size], the two rows and columns of each output pixel and their weights.
    """

    family: ClassVar[str] = "spatial:resize"
    spec: SpatialSpec
    image: ImageParams[A, I, R]
    zero: I
    scale: R
    index_h: A
    index_w: A
    weight_h: A
    weight_w: A
    epilogue: EpilogueParams[A, I, R]

    def extents(self: "ResizeParams[Ref, int, np.float32]", isa: Isa) -> Iterator[Extent]:
        """Yields the bytes that a step reaches through each of its addresses."""
        m = self.image
        assert isinstance(self.index_h, TableRef)
        assert isinstance(self.index_w, TableRef)
        ((top, bottom),), ((left, right),) = self.index_h.ranges, self.index_w.ranges
        low, high = span((m.n, m.c), (m.in_ns, 1))
        yield Extent(m.x, low + top * m.in_rs + left * m.in_ps, high + bottom * m.in_rs + right * m.in_ps)
        yield m.written()
        yield Extent(self.index_h, 0, 8 * m.oh)
        yield Extent(self.index_w, 0, 8 * m.ow)
        yield Extent(self.weight_h, 0, 8 * m.oh)
        yield Extent(self.weight_w, 0, 8 * m.ow)
        yield from self.epilogue.extents()


@kernel(ResizeParams)
def resize(f: Fn, params: ResizeParams[Param, Param, Param]) -> None:
    """Bilinear resize with 10-bit weights."""
    p: ResizeParams[Val, Val, Val] = f.values(params)
    m, n, zero = p.image, p.spec.width, p.zero.cast("trunc", "i32")
    e = load_epilogue(f, p.epilogue, Finish(p.spec.table))

    def pixel(x: Val, oh: Val, ow: Val) -> Callable[[Val], Val]:
        rows = [f.load("i32", p.index_h, (m.oh * i + oh) * 4).cast("sext", "i64") * m.in_rs for i in range(2)]
        cols = [f.load("i32", p.index_w, (m.ow * i + ow) * 4).cast("sext", "i64") * m.in_ps for i in range(2)]
        wy = [f.load("i32", p.weight_h, (m.oh * i + oh) * 4) for i in range(2)]
        wx = [f.load("i32", p.weight_w, (m.ow * i + ow) * 4) for i in range(2)]

        def channel(c: Val) -> Val:
            total: Val | None = None
            for i in range(2):
                for j in range(2):
                    a = f.load(vec(n, "i8"), x, rows[i] + cols[j] + c).cast("zext", "i32") - zero.splat(n)
                    part = a * (wy[i] * wx[j]).splat(n)
                    total = part if total is None else total + part
            assert total is not None
            return finish(f, e, [total.cast("sitofp", "float") * p.scale.splat(n)])[0]

        return channel

    _rows(f, p.spec, m, pixel)
