"""The outputs of a network as they are."""

import msgspec

from axforge.axruntime.lazy import Array
from axforge.axruntime.results.result import Column, PipelineResult, ResultTable


class Tensors(PipelineResult, frozen=True):
    """The outputs of the network by name, when model.json has no post-processing."""

    values: dict[str, Array] = msgspec.field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {"type": "tensors", "tensors": {n: {"shape": list(v.shape), "values": v.ravel().tolist()} for n, v in self.values.items()}}

    def table(self) -> ResultTable:
        return ResultTable((Column("output"), Column("shape")), tuple((n, "x".join(map(str, v.shape))) for n, v in self.values.items()))
