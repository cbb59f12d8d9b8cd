"""MaxPool, AveragePool."""

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.codegen.kernels.spatial import MaxPoolParams, SpatialSpec
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits
from axforge.axruntime.engines.host.emission.images import average, image_params, width_for, window_params


@emits(ir.MaxPool)
def max_pool(m: Emitter, op: ir.MaxPool) -> None:
    """The largest code of each window."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    window = window_params(op.kernel, op.strides, op.dilations, op.pads)
    m.step(op.name, MaxPoolParams(spec=SpatialSpec(width_for(x.shape[1], 64)), image=image_params(x, y), window=window))


@emits(ir.AveragePool)
def average_pool(m: Emitter, op: ir.AveragePool) -> None:
    """Sums of the real elements of each window, times a multiplier for their number."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])
    window = window_params(op.kernel, op.strides, pads=op.pads)
    average(m, op, x, y, window, m.consts.add(m.graph.constants[op.multiplier]))
