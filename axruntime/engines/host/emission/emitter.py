"""What collects the steps of a graph, and the table of functions that emit them: one for each operator of the fused graph."""

from collections.abc import Callable
from typing import Any

import numpy as np

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph, quant_of
from axforge.axcompiler.registry import Registry
from axforge.axruntime.engines.host.codegen.epilogue import EpilogueParams
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.kernels.border import BorderParams, BorderSpec
from axforge.axruntime.engines.host.codegen.params import Ref, Values, leaves
from axforge.axruntime.engines.host.emission.layout import Border, Layouts, Root, View, dense_strides, root_of
from axforge.axruntime.engines.host.emission.steps import Constants, IslandStep, Step, code_bytes


class Emitter:
    """Collects the steps of one graph for one path."""

    def __init__(self, graph: Graph, isa: Isa, layouts: Layouts) -> None:
        self.graph, self.isa, self.layouts = graph, isa, layouts
        self.consts = Constants()
        self.steps: list[Step | IslandStep] = []
        self._constant_views: dict[str, View] = {}
        self._epilogues: dict[ir.Epilogue, EpilogueParams[Ref, int, np.float32]] = {}
        self._temporaries = 0
        self._filled: set[str] = set()

    # ------------------------------------------------------------ memory

    def view(self, name: str) -> View:
        """The memory of tensor `name`; constants are laid out on first use (root '')."""
        if name not in self.graph.constants:
            return self.layouts.views[name]
        if name not in self._constant_views:
            codes = code_bytes(self.graph.constants[name])
            shape = self.graph.tensors[name].shape
            stack = name in self.layouts.stacks
            stored = codes.transpose(0, 2, 3, 1) if len(shape) == 4 and not stack else codes
            self._constant_views[name] = View("", self.consts.add(stored).offset, shape, dense_strides(shape, stack=stack))
        return self._constant_views[name]

    def temporary(self, shape: tuple[int, ...], border: Border = (0, 0, 0, 0), fill: int = 0) -> View:
        """A buffer that lives from its first to its last step."""
        root = root_of(f"%{self._temporaries}", shape, border, fill)
        self._temporaries += 1
        self.layouts.roots[root.name] = root
        return root.view

    def array(self, number: int, view: View) -> View:
        """Makes the buffer of `view`, all of it, known as array `number` of the caller."""
        self.layouts.roots[view.buffer] = Root(view.buffer, view.bounds()[1], view, array=number)
        return view

    # ------------------------------------------------------------ steps

    def step(self, name: str, params: Values, macs: int = 0) -> None:
        """Adds a kernel call for operator `name`, after the steps that fill the borders of what it is the first to touch.

        An empty image is only read: no step writes it, and its border is all that a padded convolution sees.
        """
        step = self._made(name, params, macs)
        for root in (*step.reads, *step.writes):
            self._fill_border(name, self.layouts.roots[root])
        self.steps.append(step)

    def _made(self, name: str, params: Values, macs: int = 0, disjoint_writes: bool = False) -> Step:
        extents = tuple(params.extents(self.isa))
        roots, reads, writes = self.layouts.roots, set[str](), dict[str, None]()
        for extent in extents:
            root = extent.ref.root
            # the constants and the caller's arrays are not in the arena
            if root and roots[root].array < 0:
                if extent.writes:
                    writes[root] = None
                else:
                    reads.add(root)
        only_read = tuple(sorted(reads.difference(writes)))
        return Step(name, params, leaves(params), extents, only_read, tuple(writes), macs, disjoint_writes)

    def _fill_border(self, name: str, root: Root) -> None:
        """Before a buffer is first touched: its border becomes the zero point."""
        if not any(root.border) or root.name in self._filled:
            return
        self._filled.add(root.name)
        n, c, h, _ = root.view.shape
        row = root.view.strides[2]
        top, left, bottom, right = root.border
        border: BorderParams[Ref, int, np.float32] = BorderParams(
            spec=BorderSpec(),
            y=Ref(root.name, 0),
            images=n,
            rows=top + h + bottom,
            above=top,
            below=top + h,
            bytes=row,
            left=left * c,
            right=right * c,
            step=row,
            fill=root.fill,
        )
        self.steps.append(self._made(name + ":border", border, disjoint_writes=True))

    # ------------------------------------------------------------ parameters

    def epilogue(self, e: ir.Epilogue) -> EpilogueParams[Ref, int, np.float32]:
        """Returns what a kernel needs to know of an epilogue. Layers have few different ones, so each is made once."""
        found = self._epilogues.get(e)
        if found is None:
            lo, hi = np.float32(e.lo - e.zero_point), np.float32(e.hi - e.zero_point)
            table = None if e.table is None else self.table(e.table)
            found = self._epilogues[e] = EpilogueParams(lo=lo, hi=hi, shift=e.zero_point + 128, table=table)
        return found

    def table(self, name: str) -> Ref:
        """The table of 256 codes of constant `name`."""
        return self.consts.add(code_bytes(self.graph.constants[name]))

    def zero_byte(self, name: str) -> int:
        """The byte that means 0.0 in tensor `name`: its zero point + 128."""
        return quant_of(self.graph, name).zero_point + 128


def ref(view: View) -> Ref:
    """The address of a view's first element."""
    return Ref(view.buffer, view.offset)


# ---------------------------------------------------------------- the table

#: by class of operator; the modules of `operators` have them all
emits: Registry[type[ir.Op], Callable[[Emitter, Any], None]] = Registry("the host engine's steps of an operator")
