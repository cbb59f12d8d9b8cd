"""The decision where nodes run and what is fused into what, as data that a model carries in its metadata from stage to stage.

The check stage decides where each node runs (`place.py`) and records it in checked.onnx. The quantize stage adds what the user excludes
and which Relu and Clip become the bounds of which layer (`plan.py`), and records both in quantized.onnx. The optimize stage lowers what
was decided, and refuses a model that does not allow it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from axforge.axcompiler.errors import CompileError

#: keys of the metadata
PLACES, FUSED = "axforge.places", "axforge.fused"
HOST_PLACES = ("cpu", "postprocess", "preprocess")


@dataclass(frozen=True)
class Decision:
    """places: where each node runs that does not run on the AIPU, by its name.

    fused: for each node that becomes a bound of the accumulating node before it (Relu, Clip), the name of that node; None before the
    quantize stage, and in a model that came quantized, whose QuantizeLinear nodes tell it.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, str] | None = None


def record(model: onnx.ModelProto, decision: Decision) -> None:
    """Write the decision into the model."""
    places = {place: sorted(n for n, p in decision.places.items() if p == place) for place in HOST_PLACES}
    entries = {PLACES: json.dumps(places, sort_keys=True)}
    if decision.fused is not None:
        entries[FUSED] = json.dumps(decision.fused, sort_keys=True)
    onnx.helper.set_model_props(model, entries)


def find(model: onnx.ModelProto) -> Decision | None:
    """The decision as `record` wrote it; None if the model carries none (a user's own QDQ model)."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if PLACES not in entries:
        return None
    places = {name: place for place, names in json.loads(entries[PLACES]).items() for name in names}
    return Decision(places, json.loads(entries[FUSED]) if FUSED in entries else None)


def recorded(model: onnx.ModelProto) -> Decision:
    """The decision as `record` wrote it. Raises CompileError if the model was not checked."""
    decision = find(model)
    if decision is None:
        raise CompileError("the model was not made by the check stage", where="checked.onnx", fix="Run check on the ONNX file first.")
    return decision
