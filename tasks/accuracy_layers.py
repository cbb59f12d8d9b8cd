"""The diagnosis behind `doit accuracy:MODEL --layers`: which tensors the loss comes from, as a table, as JSON and as a page."""

import json

from axforge.axcompiler.stages import BY_NAME, CALIBRATION
from axforge.tasks.compiling import shown
from axforge.tasks.project.plan import BuildPlan
from axforge.tasks.screen.display import counting, table

#: what `--layers` leaves in the results
FILE = "layers.json"
#: rows of the table
_ROWS = 12
_NAME = 40


def measured_noise(plan: BuildPlan) -> dict[str, float] | None:
    """Share of the outputs' noise that each tensor makes, as it was last measured; None if it never was, or the file is damaged."""
    try:
        document = json.loads((plan.results / FILE).read_bytes())
        return {str(tensor["tensor"]): float(tensor["share"]) for tensor in document["tensors"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def show_layers(plan: BuildPlan) -> None:
    """Diagnose the compiled model, print the worst tensors, and write layers.json and layers.html to its results. Raises AxforgeError."""
    import onnx  # only a diagnosis reads the models

    from axforge.axcompiler.diagnosis import page
    from axforge.axcompiler.diagnosis.measure import diagnose  # loads NumPy
    from axforge.axcompiler.statistics import artefacts  # loads NumPy

    files = {name: path for stage in ("check", "calibrate", "quantize") for name, path in plan.outputs(BY_NAME[stage]).items()}
    statistics = artefacts.load(*(files[name] for name in CALIBRATION))
    with counting(f"Diagnosing {plan.model.name}") as progress:
        found = diagnose(onnx.load(files["quantized.onnx"]), onnx.load(files["checked.onnx"]), statistics, progress)
    rows = []
    for tensor in found.worst(_ROWS):
        best = tensor.remedies[0] if tensor.remedies else None
        helps = "" if best is None else f"{best.what}: {best.gain:+.1f} dB"
        name = tensor.tensor if len(tensor.tensor) <= _NAME else f"…{tensor.tensor[1 - _NAME :]}"
        rows.append([name, tensor.op_type, f"{tensor.share:.1%}", f"{tensor.sqnr:.1f}", f"{tensor.saturated:.2%}", helps])
    outputs = ", ".join(f"{output.name} {output.sqnr:.1f} dB" for output in found.outputs)
    print(f"{plan.model.name}: signal to noise of the outputs on {found.samples} calibration samples: {outputs}")
    print(f"{plan.model.name}: rounding weights is {found.weights:.0%} of their noise; the rest comes from {len(found.tensors)} tensors")
    table("the tensors that it comes from, the worst first", ["tensor", "made by", "noise", "own dB", "saturated", "what helps most"], rows)
    plan.results.mkdir(parents=True, exist_ok=True)
    written = [plan.results / FILE]
    written[0].write_bytes(found.to_json())
    if page.available():
        written.append(plan.results / "layers.html")
        written[1].write_text(page.html(plan.model.name, found), encoding="utf-8")
    else:
        print("a page with histograms needs plotly: pip install 'axforge[report]'")
    print(f"results: {', '.join(shown(path, plan) for path in written)}", flush=True)
