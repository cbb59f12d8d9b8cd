"""The check that every plan passes before anything runs: no step reaches past the memory it was given.

A kernel trusts its parameters. So the lowest and the highest byte of every operand of every step, its border included, are compared with
the buffer that it is in, the piece of the constants, or the caller's array. A mistake in a layout ends here, in a sentence, and not in
a crash or in wrong codes.
"""

from collections.abc import Iterable, Mapping

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.engines.host.codegen.params import Extent, Ref
from axforge.axruntime.engines.host.emission.layout import Root
from axforge.axruntime.engines.host.emission.steps import Constants, Step

#: bytes past the end of a buffer of the arena, or a constant, that a kernel may load (never write): one whole tile row
SLACK = 256


def check(steps: Iterable[Step], roots: Mapping[str, Root], constants: Constants) -> None:
    """Raises an AxforgeError for a step that reaches outside its operands, or whose family does not say what an operand reaches."""
    for step in steps:
        known = set()
        for extent in step.extents:
            _check_extent(step, extent, roots, constants)
            known.add(id(extent.ref))
        for leaf in step.leaves:
            if type(leaf) is not int and isinstance(leaf, Ref) and id(leaf) not in known:
                raise _internal(step, f"the kernel does not say which bytes it reaches from {leaf}")


def _check_extent(step: Step, e: Extent, roots: Mapping[str, Root], constants: Constants) -> None:
    if e.first == e.last:
        return
    root, offset = e.ref.root, e.ref.offset
    start, end = (0, roots[root].size) if root else constants.piece(offset)
    first, last = offset + e.first, offset + e.last
    # what follows a caller's array is not ours to load
    slack = 0 if root and roots[root].array >= 0 else SLACK
    if first < start or last > end or last + e.spill > end + slack:
        what = "writes" if e.writes else "reads"
        place = f"buffer '{root}' of {end} bytes" if root else f"constant of {end - start} bytes"
        raise _internal(step, f"it {what} bytes {first - start} to {last - start} of the {place}")
    if e.writes and (e.spill or not root):
        raise _internal(step, "it would write what it only may read")


def _internal(step: Step, what: str) -> AxforgeError:
    sentence = f"internal error: the plan of step '{step.name}' (kernel {step.params.family}) is wrong: {what}"
    return AxforgeError(sentence, fix="This is a mistake in axforge, not in the model. Please report it.")
