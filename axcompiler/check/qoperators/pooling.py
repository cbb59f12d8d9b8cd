"""Averages of windows and of images, on codes."""

from axforge.axcompiler.check.qoperators.base import MICROSOFT, REWRITES, FloatForm, Unreadable
from axforge.axcompiler.check.qoperators.channels_last import moved
from axforge.axcompiler.onnx_graph.net import attribute


@REWRITES((MICROSOFT, "QLinearAveragePool"))
def average_pool(draft: FloatForm) -> None:
    """x, s, z, s_y, z_y -> AveragePool."""

    def body(x: str) -> str:
        return draft.add("AveragePool", [x], f"{draft.node.output[0]}_real", draft.node.name, **draft.attributes("channels_last"))

    draft.result(moved(draft, draft.code(0), body, (draft.given(3), draft.given(4))), 3)


@REWRITES((MICROSOFT, "QLinearGlobalAveragePool"))
def global_average_pool(draft: FloatForm) -> None:
    """x, s, z, s_y, z_y -> GlobalAveragePool."""
    if attribute(draft.node, "channels_last", 0):
        raise Unreadable("its channels come last, and the number of its axes is not known")
    real = draft.add("GlobalAveragePool", [draft.real(draft.code(0))], f"{draft.node.output[0]}_real", draft.node.name)
    draft.result(real, 3)
