"""The stage itself: files in, files out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from axforge.axcompiler import container, islands
from axforge.axcompiler.check.clean import clean
from axforge.axcompiler.check.load import load_model
from axforge.axcompiler.check.tensor_data import refuse_infinite_weights
from axforge.axcompiler.errors import AxforgeError, CompileError
from axforge.axcompiler.onnx_graph.net import Net, to_model
from axforge.axcompiler.onnx_graph.qdq import is_quantized, read
from axforge.axcompiler.onnx_graph.views import ModelView, view
from axforge.axcompiler.passes import Observer, ignore
from axforge.axcompiler.placement import decision, place
from axforge.axcompiler.placement.share import share
from axforge.axcompiler.qdq.partition import FloatItem, plan
from axforge.axcompiler.stages import CheckConfig, Progress


def run(inputs: Mapping[str, Path], config: CheckConfig, out: Path, progress: Progress, *, observe: Observer = ignore) -> None:
    """model.onnx -> checked.onnx, support.json. observe: is called after each pass.

    Raises CompileError, a sentence, for every model that cannot be compiled.
    """
    path = inputs["model.onnx"]
    progress(0, 3, "reading")
    model = load_model(path)
    progress(1, 3, "cleaning")
    net = clean(model, config.input_shapes, path.name, observe)
    progress(2, 3, "placing nodes")
    checked, report = checked_model(net, config, path.name)
    container.write_atomic(out / "checked.onnx", checked.SerializeToString(deterministic=True))
    container.write_atomic(out / "support.json", (json.dumps(report, indent=1) + "\n").encode())
    progress(3, 3, "done")


def checked_model(net: Net, config: CheckConfig, where: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The ONNX model with its placement recorded in it, and the report on every node."""
    model = to_model(net)
    _refuse_unknown_operators(model, where)
    seen = view(model)
    refuse_infinite_weights(net, where)
    placements = _keep_quantized(model, seen) if is_quantized(net.nodes) else place.place(seen, config, where)
    decision.record(model, place.decision(placements))
    nodes = [{"node": p.node, "op_type": p.op_type, "place": p.place, "reason": p.reason} for p in placements]
    nodes += [{"node": name, "op_type": op, "place": "folded", "reason": reason} for name, (op, reason) in net.removed.items()]
    counts = {name: sum(n["place"] == name for n in nodes) for name in sorted({n["place"] for n in nodes})}
    work = share(seen, placements).as_json()
    report = {"opset": net.opsets.get("", 0), "quantized_before": is_quantized(net.nodes), "counts": counts, "multiply_adds": work}
    return model, report | {"nodes": nodes}


def _refuse_unknown_operators(model: onnx.ModelProto, where: str) -> None:
    """Raises CompileError for an operator of the maker's own: nothing here knows it, and onnxruntime has to."""
    foreign = [n for n in model.graph.node if not onnx.defs.has(n.op_type, n.domain)]
    if not foreign:
        return
    try:
        islands.session(model.SerializeToString())
    except AxforgeError as e:
        named = ", ".join(sorted({f"{n.domain}.{n.op_type}" for n in foreign}))
        raise CompileError(
            f"onnxruntime cannot run the operators {named}, which ONNX does not define: {e.what}",
            where=where,
            fix="Export the model with operators of ONNX, or end it before them.",
        ) from e


def _keep_quantized(model: onnx.ModelProto, seen: ModelView) -> list[place.Placement]:
    """The maker of a quantized model has decided: what is between DequantizeLinear and QuantizeLinear is int8, and nothing else is."""
    reason = "the model came quantized; its own QuantizeLinear and DequantizeLinear decide"
    on_cpu = {item.proto.name: item.why for item in plan(read(model)).items if isinstance(item, FloatItem)}
    where = {name: ("cpu", why) for name, why in on_cpu.items()}
    return [place.Placement(n.name, n.op_type, *where.get(n.name, ("aipu", reason))) for n in seen.nodes]
