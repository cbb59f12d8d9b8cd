"""Random valid fused graphs that reach every operator: what engines and the compiler are tried on.

`graphs()` is a hypothesis strategy; `random_graph(seed, kinds)` builds one by hand; `feeds_for` makes inputs for it.
Channel counts are odd, kernels and groups uneven, and a third of the multipliers put accumulators on or next to rounding ties.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper

from axforge.axcompiler import ir, numerics, spec
from axforge.axcompiler.ir import Epilogue, Graph, Quant, Tensor
from axforge.axcompiler.ir.ops.normalization import LayerNorm


class Builder:
    """Grows a graph operator by operator. Every `add_*` takes an int8 tensor name and returns the new tensor's name."""

    def __init__(self, seed: int, empty: bool = False) -> None:
        self.empty = empty
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[ir.Op] = []
        self.constants: dict[str, np.ndarray] = {}
        self.islands: dict[str, bytes] = {}
        self.inputs: list[str] = []

    # ---- pieces

    def integer(self, lo: int, hi: int) -> int:
        return int(self.rng.integers(lo, hi + 1))

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def size(self, most: int) -> int:
        """A size of an axis: often 1, and with `empty` sometimes 0."""
        kind = self.rng.random()
        return 0 if self.empty and kind < 0.07 else 1 if kind < 0.25 else self.integer(1, most)

    def quant(self) -> Quant:
        zero = int(self.rng.choice([-128, 127, 0, self.integer(-128, 127), self.integer(-20, 20)]))
        return Quant(float(np.float32(2.0 ** self.rng.uniform(-9, 1))), zero)

    def tensor(self, shape: Sequence[int], quant: Quant | None = None) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(tuple(int(d) for d in shape), quant=quant or self.quant())
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def of(self, name: str) -> Quant:
        quant = self.tensors[name].quant
        assert quant
        return quant

    def table(self) -> str:
        return self.constant(self.rng.integers(-128, 128, 256).astype(np.int8))

    def epilogue(self, out: str) -> Epilogue:
        """Plain, with ReLU-like bounds, or with a table (whose own zero point is another)."""
        lo, hi = sorted((self.integer(-128, 127), self.integer(-128, 127))) if self.flip(0.3) else (-128, 127)
        if self.flip(0.3):
            return Epilogue(self.integer(-128, 127), lo, hi, self.table())
        return Epilogue(self.of(out).zero_point, lo, hi)

    def multiplier(self, spread: float) -> float:
        """A float32 that brings accumulators of about `spread` into int8, or one that makes ties, or nearly."""
        plain = np.float32(self.rng.uniform(20, 90) / max(spread, 1.0))
        kind = self.integer(0, 5)
        if kind == 0:  # exact ties: a power of two
            m = np.float32(2.0 ** math.floor(math.log2(plain)))
        elif kind == 1:  # one step beside a tie
            m = np.nextafter(np.float32(2.0 ** math.floor(math.log2(plain))), np.float32(self.rng.choice([0, 9])), dtype=np.float32)
        elif kind == 2:  # (2k + 1) / 2 over a likely accumulator, rounded to float32: the product may land on either side
            m = np.float32((2 * self.integer(0, 60) + 1) / (2 * max(1, self.integer(1, max(2, int(spread))))))
        elif kind == 3 and self.flip(0.2):
            m = np.float32(self.rng.choice([1e-12, 1e6]))
        else:
            m = plain
        return float(m)

    def multipliers(self, n: int, spread: float) -> str:
        return self.constant(np.asarray([self.multiplier(spread) for _ in range(n)], np.float32))

    def spread(self, x: str, weights: np.ndarray, k: int) -> float:
        return 70.0 * float(np.abs(weights.astype(np.float32)).mean() + 1) * math.sqrt(max(k, 1))

    def weights(self, shape: Sequence[int]) -> np.ndarray:
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        if self.flip(0.1):
            w[...] = self.rng.choice([-128, 127])
        return w

    def bias(self, m: int) -> str:
        wide = 2**30 if self.flip(0.1) else 4000
        return self.constant(self.rng.integers(-wide, wide, m).astype(np.int32))

    def emit(self, kind: type[ir.Op], inputs: Sequence[str], out: str, **fields: object) -> str:
        self.ops.append(kind(name=f"{kind.__name__.lower()}{len(self.ops)}", inputs=tuple(inputs), outputs=(out,), **fields))  # type: ignore[arg-type]
        return out

    def add_input(self, shape: Sequence[int]) -> str:
        name = self.tensor(shape)
        self.inputs.append(name)
        return name

    # ---- operators

    def window(self, size: int) -> tuple[int, int, int, int, int]:
        """kernel, stride, dilation, pad before, pad after that fit an axis of `size`."""
        k, s, d = self.integer(1, 4), self.integer(1, 3), self.integer(1, 2)
        before, after = self.integer(0 if size else 1, k), self.integer(0, k)
        while size + before + after < (k - 1) * d + 1:
            k, d = max(1, k - 1), 1
        return k, s, d, before, after

    def add_conv(self, x: str) -> str:
        n, c, h, w = self.shape(x)
        if c == 0:
            return self.add_table(x)
        (kh, sh, dh, top, bottom), (kw, sw, dw, left, right) = self.window(h), self.window(w)
        divisors = [g for g in range(1, c + 1) if c % g == 0]
        groups = int(self.rng.choice([1, c, int(self.rng.choice(divisors))]))
        m = groups * self.integer(1, 2) if groups > 1 else self.integer(1, 40)
        weight = self.weights((m, c // groups, kh, kw))
        oh, ow = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1, (w + left + right - (kw - 1) * dw - 1) // sw + 1
        out = self.tensor((n, m, oh, ow))
        mult = self.multipliers(m, self.spread(x, weight, weight[0].size))
        return self.emit(
            ir.Conv,
            [x],
            out,
            weight=self.constant(weight),
            bias=self.bias(m),
            multiplier=mult,
            strides=(sh, sw),
            dilations=(dh, dw),
            pads=(top, left, bottom, right),
            groups=groups,
            epilogue=self.epilogue(out),
        )

    def add_conv_transpose(self, x: str) -> str:
        n, c, h, w = self.shape(x)
        if 0 in (c, h, w):
            return self.add_table(x)
        groups = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        mg, kh, kw, sh, sw, dh, dw = (self.integer(1, n) for n in (5, 4, 4, 3, 3, 2, 2))
        extra = (self.integer(0, sh - 1), self.integer(0, sw - 1))
        full = [(s - 1) * st_ + (k - 1) * d + 1 + e for s, st_, k, d, e in ((h, sh, kh, dh, extra[0]), (w, sw, kw, dw, extra[1]))]
        top, left = self.integer(0, min(4, full[0] - 1)), self.integer(0, min(4, full[1] - 1))
        bottom, right = self.integer(0, min(3, full[0] - 1 - top)), self.integer(0, min(3, full[1] - 1 - left))
        weight = self.weights((c, mg, kh, kw))
        out = self.tensor((n, mg * groups, full[0] - top - bottom, full[1] - left - right))
        return self.emit(
            ir.ConvTranspose,
            [x],
            out,
            weight=self.constant(weight),
            bias=self.bias(mg * groups),
            multiplier=self.multipliers(mg * groups, self.spread(x, weight, c // groups * 2)),
            strides=(sh, sw),
            dilations=(dh, dw),
            pads=(top, left, bottom, right),
            output_padding=extra,
            groups=groups,
            epilogue=self.epilogue(out),
        )

    def add_fully_connected(self, x: str) -> str:
        *lead, k = self.shape(x)
        if k == 0:
            return self.add_table(x)
        m = self.integer(1, 30)
        weight = self.weights((m, k))
        out = self.tensor((*lead, m))
        mult = self.multipliers(m, self.spread(x, weight, k))
        return self.emit(
            ir.FullyConnected,
            [x],
            out,
            weight=self.constant(weight),
            bias=self.bias(m),
            multiplier=mult,
            epilogue=self.epilogue(out),
        )

    def other(self, shape: Sequence[int]) -> str:
        """A second operand of this shape: a constant, a new input, or an old tensor that happens to fit."""
        fits = [n for n, t in self.tensors.items() if t.shape == tuple(shape) and t.quant]
        choice = self.integer(0, 2)
        if choice == 0 and fits:
            return str(self.rng.choice(fits))
        name = self.tensor(shape)
        if choice == 1:
            self.constants[name] = self.rng.integers(-128, 128, tuple(shape)).astype(np.int8)
        else:
            self.inputs.append(name)
        return name

    def partner(self, x: str) -> str:
        """An operand that broadcasts with x."""
        shape = [d if self.flip(0.7) else 1 for d in self.shape(x)]
        if self.flip(0.2):
            shape = shape[self.integer(0, max(0, len(shape) - 1)) :]
        if self.flip(0.1) and len(shape) < 5:
            shape = [2, *[1] * (len(self.shape(x)) - len(shape)), *shape]
        return self.other(shape)

    def add_matmul(self, x: str) -> str:
        shape = self.shape(x)
        if len(shape) < 2 or shape[-1] == 0:
            return self.add_table(x)
        j = self.integer(1, 9)
        lead = [d if self.flip(0.6) else 1 for d in shape[:-2]]
        b = self.other((*(lead if self.flip(0.7) else []), shape[-1], j))
        out = self.tensor((*shape[:-1], j))
        return self.emit(ir.MatMul, [x, b], out, multiplier=self.multiplier(5000.0 * math.sqrt(shape[-1])), epilogue=self.epilogue(out))

    def add_add(self, x: str) -> str:
        b = self.partner(x)
        pair = (x, b) if self.flip() else (b, x)
        out = self.tensor(np.broadcast_shapes(self.shape(x), self.shape(b)))
        signs = (1.0, -1.0 if self.flip(0.3) else 1.0)
        values = tuple(float(np.float32(s * self.multiplier(100.0))) for s in signs)
        return self.emit(ir.Add, pair, out, multipliers=values, epilogue=self.epilogue(out))

    def add_mul(self, x: str) -> str:
        b = self.partner(x)
        pair = (x, b) if self.flip() else (b, x)
        out = self.tensor(np.broadcast_shapes(self.shape(x), self.shape(b)))
        return self.emit(ir.Mul, pair, out, multiplier=self.multiplier(5000.0), epilogue=self.epilogue(out))

    def add_table(self, x: str) -> str:
        return self.emit(ir.Table, [x], self.tensor(self.shape(x)), table=self.table())

    def add_max_pool(self, x: str) -> str:
        n, c, h, w = self.shape(x)
        (kh, sh, dh, top, bottom), (kw, sw, dw, left, right) = self.window(h), self.window(w)
        oh, ow = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1, (w + left + right - (kw - 1) * dw - 1) // sw + 1
        out = self.tensor((n, c, oh, ow), self.of(x))
        return self.emit(ir.MaxPool, [x], out, kernel=(kh, kw), strides=(sh, sw), dilations=(dh, dw), pads=(top, left, bottom, right))

    def add_average_pool(self, x: str) -> str:
        n, c, h, w = self.shape(x)
        if self.flip(0.3) and h * w:
            kh, kw, sh, sw, pads = h, w, 1, 1, (0, 0, 0, 0)
        else:
            kh, kw = self.integer(1, min(4, h or 4)), self.integer(1, min(4, w or 4))
            sh, sw = self.integer(1, 3), self.integer(1, 3)
            # a window fits even where there is no image
            pads = (*(self.integer(0 if d else k, k) for d, k in ((h, kh), (w, kw))), self.integer(0, kh), self.integer(0, kw))
        oh, ow = (h + pads[0] + pads[2] - kh) // sh + 1, (w + pads[1] + pads[3] - kw) // sw + 1
        out = self.tensor((n, c, oh, ow))
        mult = self.multipliers(kh * kw, 200.0 * kh * kw)
        return self.emit(
            ir.AveragePool, [x], out, kernel=(kh, kw), strides=(sh, sw), pads=pads, multiplier=mult, epilogue=self.epilogue(out)
        )

    def axes(self, rank: int) -> tuple[int, ...]:
        count = self.integer(1, rank) if rank else 0
        return tuple(int(a) for a in self.rng.permutation(rank)[:count])

    def add_reduce_sum(self, x: str) -> str:
        shape, keep = self.shape(x), self.flip()
        axes = self.axes(len(shape))
        out = self.tensor([1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes])
        size = math.prod(shape[a] for a in axes)
        return self.emit(
            ir.ReduceSum, [x], out, axes=axes, keepdims=keep, multiplier=self.multiplier(100.0 * size), epilogue=self.epilogue(out)
        )

    def add_reduce_max(self, x: str) -> str:
        shape, keep = self.shape(x), self.flip()
        axes = tuple(a for a in self.axes(len(shape)) if shape[a])
        out = self.tensor([1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes], self.of(x))
        return self.emit(ir.ReduceMax, [x], out, axes=axes, keepdims=keep)

    def add_resize_linear(self, x: str) -> str:
        n, c, *sizes = self.shape(x)
        names, outs = [], []
        for size in sizes:
            o = self.integer(1, 2 * size + 1) if size else 0
            names.append((self.constant(self.rng.integers(0, size, (2, o)).astype(np.int32)), self.constant(self.lerp(o))))
            outs.append(o)
        out = self.tensor((n, c, *outs))
        m = self.multiplier(100.0 * 2**20)
        (ih, wh), (iw, ww) = names
        return self.emit(
            ir.ResizeLinear, [x], out, index_h=ih, index_w=iw, weight_h=wh, weight_w=ww, multiplier=m, epilogue=self.epilogue(out)
        )

    def lerp(self, o: int) -> np.ndarray:
        one = 1 << numerics.RESIZE_BITS
        upper = self.rng.integers(0, one + 1, o)
        return np.stack([one - upper, upper]).astype(np.int32)

    def add_concat(self, x: str) -> str:
        shape = self.shape(x)
        axis = self.integer(0, len(shape) - 1)
        others = [self.other([self.size(5) if i == axis else d for i, d in enumerate(shape)]) for _ in range(self.integer(1, 3))]
        inputs = [x, *others, *([x] if self.flip(0.2) else [])]
        size = sum(self.shape(i)[axis] for i in inputs)
        out = self.tensor([size if i == axis else d for i, d in enumerate(shape)], self.of(x))
        tables = tuple(None if self.of(i) == self.of(x) and self.flip() else self.table() for i in inputs)
        return self.emit(ir.Concat, inputs, out, axis=axis, tables=tables)

    def add_reshape(self, x: str) -> str:
        left = math.prod(self.shape(x))
        new: list[int] = []
        while left > 1 and len(new) < 4:
            f = int(self.rng.choice([d for d in range(1, left + 1) if left % d == 0]))
            new.append(f)
            left //= f
        if left == 0:
            new.append(self.integer(0, 3))
        return self.emit(ir.Reshape, [x], self.tensor([*new, left], self.of(x)))

    def add_transpose(self, x: str) -> str:
        perm = tuple(int(p) for p in self.rng.permutation(len(self.shape(x))))
        return self.emit(ir.Transpose, [x], self.tensor([self.shape(x)[p] for p in perm], self.of(x)), perm=perm)

    def add_slice(self, x: str) -> str:
        starts, steps, sizes = [], [], []
        for size in self.shape(x):
            step = int(self.rng.choice([1, 1, 2, 3, -1, -2, max(size - 1, 1), -max(size - 1, 1)]))
            start = self.integer(0, max(size - 1, 0))
            if self.flip(0.3):  # as far as the step allows
                start = 0 if step > 0 else max(size - 1, 0)
            room = (size - 1 - start) // step if step > 0 else start // -step
            starts.append(start)
            steps.append(step)
            none = size == 0 or (self.empty and self.flip(0.03))
            sizes.append(0 if none else room + 1 if self.flip(0.3) else self.integer(1, room + 1))
        steps = [step if n > 1 else 1 for step, n in zip(steps, sizes, strict=True)]
        return self.emit(ir.Slice, [x], self.tensor(sizes, self.of(x)), starts=tuple(starts), steps=tuple(steps))

    def add_take(self, x: str) -> str:
        shape = self.shape(x)
        axis = self.integer(0, len(shape) - 1)
        count = shape[axis]
        kind = self.integer(0, 2)
        if count == 0:
            index = np.zeros(0, np.int32)
        elif kind == 0:  # nearest resize
            index = np.repeat(np.arange(count), self.integer(1, 3))
        elif kind == 1:  # edge padding
            index = np.clip(np.arange(-2, count + 3), 0, count - 1)
        else:
            index = self.rng.integers(0, count, self.integer(1, 7))
        out = self.tensor([len(index) if i == axis else d for i, d in enumerate(shape)], self.of(x))
        return self.emit(ir.Take, [x], out, axis=axis, index=self.constant(index.astype(np.int32)))

    def add_pad(self, x: str) -> str:
        shape = self.shape(x)
        before, after = (tuple(self.integer(0, 2) for _ in shape) for _ in range(2))
        out = self.tensor([b + d + a for b, d, a in zip(before, shape, after, strict=True)], self.of(x))
        return self.emit(ir.Pad, [x], out, before=before, after=after, value=self.integer(-128, 127))

    def add_broadcast(self, x: str) -> str:
        shape = [self.integer(1, 4) if d == 1 else d for d in self.shape(x)]
        lead = [self.integer(1, 3)] if self.flip(0.3) and len(shape) < 5 else []
        return self.emit(ir.Broadcast, [x], self.tensor([*lead, *shape], self.of(x)))

    def add_softmax(self, x: str) -> str:
        e = np.rint(np.exp(-np.arange(256) * float(self.rng.uniform(0.001, 0.5))) * 2**numerics.SOFTMAX_BITS).astype(np.int32)
        out = self.tensor(self.shape(x))
        axis = self.integer(0, len(self.shape(x)) - 1)
        m = float(np.float32(self.rng.choice([256.0, 255.0, 300.5])))
        return self.emit(ir.Softmax, [x], out, axis=axis, exponent=self.constant(e), multiplier=m, epilogue=self.epilogue(out))

    def add_layer_norm(self, x: str) -> str:
        """Scales around what fills int8, some zero; epsilon from nothing to more than the variance."""
        depth = self.shape(x)[-1]
        out = self.tensor(self.shape(x))
        multiplier = np.asarray(
            [self.rng.choice([self.multiplier(2.0), -self.multiplier(2.0), 0.0], p=[0.6, 0.3, 0.1]) for _ in range(depth)]
        )
        offset = self.rng.normal(0, 30, depth) if self.flip() else np.zeros(depth)
        epsilon = float(np.float32(self.rng.choice([0.0, 1e-9, 0.5, 900.0, 1e9]) * depth**2))
        names = [self.constant(v.astype(np.float32)) for v in (multiplier, offset)]
        return self.emit(LayerNorm, [x], out, multiplier=names[0], offset=names[1], epsilon=epsilon, epilogue=self.epilogue(out))

    def add_island(self, x: str) -> str:
        """A float32 island in the middle: y = tanh(x) + x."""
        out, name = self.tensor(self.shape(x)), f"island{len(self.islands)}"
        shape = list(self.shape(x))
        nodes = [helper.make_node("Tanh", [x], ["h"]), helper.make_node("Add", ["h", x], [out])]
        value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (x, out)]
        model = helper.make_model(
            helper.make_graph(nodes, name, value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        self.islands[name] = model.SerializeToString(deterministic=True)
        return self.emit(ir.Island, [x], out, island=name, reason="a test")

    def finish(self, last: str) -> Graph:
        used = {n for op in self.ops for n in op.inputs}
        ends = [n for op in self.ops for n in op.outputs if n not in used]
        graph = Graph(
            name="random",
            tensors=dict(self.tensors),
            ops=tuple(self.ops),
            inputs=tuple(self.inputs),
            outputs=tuple(dict.fromkeys([*ends, last])),
            constants=dict(self.constants),
            islands=dict(self.islands),
        )
        spec.check(graph)
        return graph


IMAGE_KINDS = ("conv", "conv_transpose", "max_pool", "average_pool", "resize_linear")
KINDS = (
    *IMAGE_KINDS,
    "fully_connected",
    "matmul",
    "add",
    "mul",
    "table",
    "reduce_sum",
    "reduce_max",
    "concat",
    "reshape",
    "transpose",
    "slice",
    "take",
    "pad",
    "broadcast",
    "softmax",
    "layer_norm",
    "island",
)
#: an activation never grows beyond this many elements, so that the NumPy reference stays quick
LIMIT = 60_000


def random_graph(seed: int, kinds: Sequence[str], *, empty: bool = False, branch: float = 0.3) -> Graph:
    """A valid graph with operators of these kinds in turn, each on a tensor made before; what cannot follow is left out.

    empty: axes may have size 0, which the AIPU refuses where something is made of it. branch: how often an operator reads another
    tensor than the one made last.
    """
    b = Builder(seed, empty)
    image = [b.size(2), b.size(21), b.size(13), b.size(13)]
    rank = 4 if any(k in IMAGE_KINDS for k in kinds) or b.flip(0.6) else b.integer(1, 5)
    last = b.add_input([*image, b.integer(1, 3)][-rank:] if rank != 4 else image)
    made = [last]
    for kind in kinds:
        fits = [n for n in made if len(b.shape(n)) == 4 or kind not in IMAGE_KINDS]
        fits = [n for n in fits if 0 < len(b.shape(n)) <= 5 and math.prod(b.shape(n)) <= LIMIT]
        if not fits:
            continue
        source = fits[-1] if not b.flip(branch) else str(b.rng.choice(fits))
        step: Callable[[str], str] = getattr(b, f"add_{kind}")
        last = step(source)
        made.append(last)
    return b.finish(last) if b.ops else random_graph(seed + 1, ("table",))


def graphs(max_ops: int = 6, kinds: Sequence[str] = KINDS, *, empty: bool = False) -> st.SearchStrategy[Graph]:
    """Strategy of random valid graphs with 1 to `max_ops` operators; with `empty`, some of tensors without elements."""
    chosen = st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=max_ops)
    return st.builds(random_graph, st.integers(0, 2**32), chosen, empty=st.just(empty), branch=st.sampled_from([0.0, 0.3, 0.8]))


def feeds_for(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random codes (int8) or numbers (any other type) for every input; the extreme codes are frequent."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if tensor.quant is None and tensor.dtype != "int8":
            feeds[name] = rng.standard_normal(tensor.shape).astype(tensor.dtype)
            continue
        codes = rng.integers(-128, 128, tensor.shape).astype(np.int8)
        extreme = rng.random(tensor.shape) < 0.1
        feeds[name] = np.where(extreme, rng.choice(np.asarray([-128, 127], np.int8), tensor.shape), codes).astype(np.int8)
    return feeds
