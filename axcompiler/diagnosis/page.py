"""A diagnosis as one HTML page that needs no network: noise along the network, the worst tensors with their histograms and ranges.

Names come from the model's file, so they are escaped wherever they appear.
"""

from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

from axforge.axcompiler.diagnosis.findings import Diagnosis, TensorFinding

#: tensors with a histogram and a row in the table
_SHOWN = 12
_ROWS = 25
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; font-size: 13px } th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; min-width: 12em }
td { vertical-align: top; overflow-wrap: anywhere }
h2 { margin-top: 2em } p { max-width: 70em }
"""


def available() -> bool:
    """Whether the library that draws is installed."""
    return find_spec("plotly") is not None


def html(name: str, diagnosis: Diagnosis) -> str:
    """The page on the model `name`."""
    import plotly.graph_objects as go  # takes a second, and only a page needs it
    from plotly.offline import get_plotlyjs

    figures = [
        _noise(go, diagnosis),
        _ratio(go, diagnosis),
        *([_histograms(go, diagnosis)] if diagnosis.tensors else []),
        _samples(go, diagnosis),
    ]
    drawn = [figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}) for figure in figures]
    worst = diagnosis.worst(_ROWS)
    parts = [
        f"<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>{escape(name)}: where int8 loses</title>",
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{escape(name)}: where int8 loses</h1>",
        f"<p>Measured on {diagnosis.samples} calibration samples. Rounding weights and biases is {diagnosis.weights:.0%} of the noise "
        f"of the outputs; the rest comes from {len(diagnosis.tensors)} tensors.</p>",
        _table(
            ["output", "int8, dB", "int8 weights alone, dB"],
            [[o.name, f"{o.sqnr:.1f}", f"{o.weights_sqnr:.1f}"] for o in diagnosis.outputs],
        ),
        "<h2>Noise along the network</h2><p>The share of the outputs' noise that comes from rounding each tensor, in the order in which "
        "they are made.</p>",
        drawn[0],
        "<p>The signal-to-noise ratio of each tensor's own rounding.</p>",
        drawn[1],
        "<h2>The worst tensors</h2>",
        _table(_HEAD, [_row(tensor) for tensor in worst]),
        *(
            [f"<h2>Values and ranges of the first {min(_SHOWN, len(worst))}</h2><p>Lines show what the codes reach.</p>", drawn[2]]
            if worst
            else []
        ),
        "<h2>Calibration</h2><p>How much of the tensors' ranges was reached after so many of the kept samples, and how many extremes each "
        "sample holds: one that holds many more than the others may be unlike them.</p>",
        drawn[-1],
        "</body></html>",
    ]
    return "\n".join(parts)


_HEAD = [
    "tensor",
    "made by",
    "share of noise",
    "own ratio, dB",
    "cosine",
    "saturated",
    "codes reach",
    "values seen",
    "quiet channels",
    "what helps",
]


def _row(tensor: TensorFinding) -> list[str]:
    helps = "; ".join(f"{remedy.what}: {remedy.gain:+.1f} dB" for remedy in tensor.remedies) or "—"
    return [
        tensor.tensor,
        tensor.op_type or "input",
        f"{tensor.share:.1%}",
        f"{tensor.sqnr:.1f}",
        f"{tensor.cosine:.4f}",
        f"{tensor.saturated:.3%}",
        f"{tensor.lo:.4g} to {tensor.hi:.4g}",
        f"{tensor.low:.4g} to {tensor.high:.4g}",
        f"{tensor.quiet} of {tensor.channels}" if tensor.quiet else "0",
        helps if tensor.remedies else "",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _label(tensor: TensorFinding) -> str:
    return escape(tensor.tensor if len(tensor.tensor) <= 60 else f"{tensor.tensor[:28]}…{tensor.tensor[-28:]}")


def _layout(figure: Any, height: int, **more: Any) -> Any:
    figure.update_layout(template="simple_white", height=height, margin={"l": 60, "r": 20, "t": 30, "b": 50}, showlegend=False, **more)
    return figure


def _noise(go: Any, diagnosis: Diagnosis) -> Any:
    tensors = diagnosis.tensors
    bars = go.Bar(
        x=list(range(len(tensors))),
        y=[100 * t.share for t in tensors],
        hovertext=[f"{_label(t)}<br>{escape(t.op_type or 'input')}, own ratio {t.sqnr:.1f} dB" for t in tensors],
        marker={"color": "#c33"},
    )
    return _layout(go.Figure(bars), 280, xaxis_title="tensor", yaxis_title="share of noise, %")


def _ratio(go: Any, diagnosis: Diagnosis) -> Any:
    tensors = diagnosis.tensors
    line = go.Scatter(
        x=list(range(len(tensors))),
        y=[t.sqnr for t in tensors],
        mode="markers",
        hovertext=[_label(t) for t in tensors],
        marker={"color": "#36a", "size": 6},
    )
    return _layout(go.Figure(line), 240, xaxis_title="tensor", yaxis_title="ratio, dB")


def _histograms(go: Any, diagnosis: Diagnosis) -> Any:
    from plotly.subplots import make_subplots

    worst = diagnosis.worst(_SHOWN)
    rows = -(-len(worst) // 3)
    figure = make_subplots(rows=rows, cols=3, subplot_titles=[_label(t) for t in worst], vertical_spacing=0.3 / rows)
    for i, tensor in enumerate(worst):
        at = {"row": i // 3 + 1, "col": i % 3 + 1}
        middles = [(a + b) / 2 for a, b in zip(tensor.edges, tensor.edges[1:], strict=False)]
        figure.add_trace(go.Bar(x=middles, y=list(tensor.counts), marker={"color": "#999"}), **at)
        for bound in (tensor.lo, tensor.hi):
            figure.add_vline(x=bound, line={"color": "#c33", "width": 1.5}, **at)
    figure.update_yaxes(type="log", showticklabels=False)
    figure.update_annotations(font={"size": 11})
    return _layout(figure, 190 * rows + 40, bargap=0)


def _samples(go: Any, diagnosis: Diagnosis) -> Any:
    from plotly.subplots import make_subplots

    found = diagnosis.calibration
    numbers = list(range(1, len(found.covered) + 1))
    figure = make_subplots(rows=1, cols=2, subplot_titles=["ranges reached, %", "extremes held"])
    figure.add_trace(
        go.Scatter(x=numbers, y=[100 * share for share in found.covered], mode="lines+markers", marker={"color": "#36a"}), row=1, col=1
    )
    figure.add_trace(go.Bar(x=numbers, y=list(found.extremes), marker={"color": "#36a"}), row=1, col=2)
    figure.update_xaxes(title="kept sample")
    return _layout(figure, 280)
