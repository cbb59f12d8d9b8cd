"""ResizeLinear."""

import numpy as np

from axforge.axcompiler import ir
from axforge.axruntime.engines.host.codegen.kernels.spatial import ResizeParams, SpatialSpec
from axforge.axruntime.engines.host.codegen.params import Ref, TableRef
from axforge.axruntime.engines.host.emission.emitter import Emitter, emits
from axforge.axruntime.engines.host.emission.images import image_params, width_for


@emits(ir.ResizeLinear)
def resize_linear(m: Emitter, op: ir.ResizeLinear) -> None:
    """Bilinear resize: two rows and two columns of the operand for each output pixel."""
    x, y = m.view(op.inputs[0]), m.view(op.outputs[0])

    def indices(name: str) -> TableRef:
        value = np.asarray(m.graph.constants[name], np.int64)
        return m.consts.add_offsets(value.reshape(-1), np.int32)

    params: ResizeParams[Ref, int, np.float32] = ResizeParams(
        spec=SpatialSpec(width_for(x.shape[1], 16), op.epilogue.table is not None),
        image=image_params(x, y),
        zero=m.zero_byte(op.inputs[0]),
        scale=np.float32(op.multiplier),
        index_h=indices(op.index_h),
        index_w=indices(op.index_w),
        weight_h=m.consts.add(m.graph.constants[op.weight_h]),
        weight_w=m.consts.add(m.graph.constants[op.weight_w]),
        epilogue=m.epilogue(op.epilogue),
    )
    m.step(op.name, params)
