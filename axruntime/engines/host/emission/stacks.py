"""Which tensors of four axes are stacks of matrices, kept in row-major order, and not images, which have channels next to each other."""

from collections.abc import Iterable

from axforge.axcompiler import ir
from axforge.axcompiler.ir import Graph
from axforge.axcompiler.ir.ops.normalization import LayerNorm

#: results have the layout of the operands, which is theirs to choose
_EITHER = (ir.Add, ir.Mul, ir.Table, ir.Concat, ir.Slice, ir.Take, ir.Pad, ir.Broadcast)
#: operands and results may have any layout
_BETWEEN = (ir.Reshape, ir.Transpose, ir.Island)


def _wants_rows(op: ir.Op, rank: int) -> bool:
    """Whether an operator works along the last axis."""
    return isinstance(op, ir.MatMul | LayerNorm | ir.FullyConnected) or (isinstance(op, ir.Softmax) and op.axis == rank - 1)


class _LayoutGroups:
    """Sets of tensors that have one layout."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The tensor that stands for the group of `name`."""
        while (leader := self._leader.get(name, name)) != name:
            self._leader[name] = self._leader.get(leader, leader)
            name = leader
        return name

    def join(self, names: Iterable[str]) -> None:
        """Make the groups of these tensors one."""
        leaders = [self.of(name) for name in names]
        for leader in leaders[1:]:
            self._leader[leader] = self.of(leaders[0])


def stacks(graph: Graph) -> frozenset[str]:
    """Tensors of four axes, constants too, that are stacks of matrices.

    Operators that compute along the last axis want their tensors so, those that compute on images want channels, and element-wise
    ones want all of theirs in one layout. Where nobody asks for either, a tensor that is reshaped is kept in row-major order.
    """
    groups = _LayoutGroups()
    wanted: dict[str, bool] = {}
    reshaped: set[str] = set()
    for op in graph.ops:
        names = [n for n in (*op.inputs, *op.outputs) if len(graph.tensors[n].shape) == 4]
        if isinstance(op, _EITHER):
            groups.join(names)
        elif isinstance(op, _BETWEEN):
            reshaped.update(names if isinstance(op, ir.Reshape) else ())
        else:
            for name in names:
                wanted[name] = wanted.get(name, True) and _wants_rows(op, 4)
    votes: dict[str, bool] = {}
    for name, rows in wanted.items():
        votes[groups.of(name)] = votes.get(groups.of(name), True) and rows
    for name in reshaped:
        votes.setdefault(groups.of(name), True)
    return frozenset(n for n, t in graph.tensors.items() if len(t.shape) == 4 and votes.get(groups.of(n), False))
