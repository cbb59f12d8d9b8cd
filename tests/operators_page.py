"""Prints docs/operators.md: what runs where, from the descriptions of the operators and a run of the node tests of the onnx package.

python tests/operators_page.py --write docs/operators.md
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
from onnx_survey import COARSE, ONNXRUNTIME_DIFFERS, Outcome, survey

from axforge.axcompiler.container import write_atomic
from axforge.axcompiler.operators import common
from axforge.axcompiler.operators.base import Operator, Scale, registered, registered_elementwise

COMMAND = "python tests/operators_page.py --write docs/operators.md"
_BASIC = ("float32", "static", "not_empty", "ranks", "all_float32", "varies")


def document(outcomes: Sequence[Outcome]) -> str:
    """The whole page, as Markdown."""
    return "\n".join([*_head(), *_operators(outcomes), *_regions(), *_cpu(outcomes), *_tests(outcomes)]) + "\n"


def versions() -> str:
    """The libraries whose versions decide the counts."""
    import onnxruntime

    return f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"


def described() -> str:
    """The part of the page that depends on this package alone: each operator with its constraints."""
    return "\n".join(f"{name}: {' '.join(_sentences(operator))}" for name, operator in registered().items())


def _head() -> list[str]:
    return [
        "# Operators",
        "",
        f"Printed by `{COMMAND}` from the operators' own descriptions and from a run of the node tests of the `onnx` package",
        f"({versions()}). Do not edit; `tests/test_onnx_node_tests.py` fails when this page is stale.",
        "",
        "A node runs on the AIPU in int8 if it keeps the constraints below. Any other node runs on the CPU in float32 as part of an",
        "*island*, also in the middle of a network. What neither can run is refused when compiling, with a sentence.",
        "",
        "All AIPU operators share these constraints:",
        "",
        *(f"- {sentence}" for sentence in _basic_sentences()),
        "",
    ]


def _basic_sentences() -> list[str]:
    return [_sentence(getattr(common, name)) for name in _BASIC if name not in ("all_float32",)]


def _sentence(constraint: object) -> str:
    return (constraint.__doc__ or "").strip().splitlines()[0]


def _sentences(operator: Operator) -> list[str]:
    return [_sentence(c) for c in operator.constraints if getattr(c, "__name__", "") not in _BASIC]


# ---------------------------------------------------------------- tables


def _counts(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Counter[str]]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for o in outcomes:
        if not o.expanded:
            counts[o.domain, o.operator][o.place] += 1
    return counts


def _opsets(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for o in outcomes:
        found[o.domain, o.operator].add(o.opset)
    return {key: ", ".join(map(str, sorted(values))) for key, values in found.items()}


def _operators(outcomes: Sequence[Outcome]) -> list[str]:
    counts, opsets = _counts(outcomes), _opsets(outcomes)
    lines = [
        "## On the AIPU",
        "",
        "The numbers count node tests by where the model ran: AIPU, both, CPU, refused. Tests run as they are, where weights, shapes and",
        "axes are often inputs of the model, and once more with all inputs but the first made constant, as in real models.",
        "*Scale*: own = the result has its own range; copy = the operand's codes are copied; join = one scale for all operands.",
        "",
        "| operator | opsets tested | AIPU | both | CPU | refused | scale | constraints |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, operator in registered().items():
        c = counts[("", name)]
        numbers = " | ".join(str(c[place]) for place in ("aipu", "mixed", "cpu", "refused"))
        scale = "table" if operator.activation else {Scale.OWN: "own", Scale.COPY: "copy", Scale.JOIN: "join"}[operator.scale]
        lines.append(f"| {name} | {opsets.get(('', name), '–')} | {numbers} | {scale} | {' '.join(_sentences(operator))} |")
    return [*lines, ""]


def _regions() -> list[str]:
    others = sorted(set(registered_elementwise()) - registered().keys())
    return [
        "## One-input regions",
        "",
        "Element-wise nodes that together are a function of one tensor (SiLU, HardSwish or GELU written out, a chain of them) become one",
        "table of 256 entries; Relu and Clip after an accumulating operator become its bounds. Beside the operators of scale *table* and",
        f"the sums and products above, these may stand inside a region: {', '.join(others)}.",
        "",
    ]


def _cpu(outcomes: Sequence[Outcome]) -> list[str]:
    counts, opsets = _counts(outcomes), _opsets(outcomes)
    lines = ["## On the CPU only", "", "| operator | opsets tested | CPU | refused |", "|---|---|---|---|"]
    for (domain, name), c in sorted(counts.items()):
        if domain or name not in registered():
            title = f"{domain}.{name}" if domain else name
            lines.append(f"| {title} | {opsets[domain, name]} | {c['cpu'] + c['mixed'] + c['aipu']} | {c['refused']} |")
    return [*lines, ""]


def _tests(outcomes: Sequence[Outcome]) -> list[str]:
    total = Counter(o.place for o in outcomes)
    lines = [
        "## The run",
        "",
        f"{len(outcomes)} models ({sum(o.expanded for o in outcomes)} of them spell an operator out in simpler ones): "
        + ", ".join(f"{total[place]} {title}" for place, title in _TITLES.items())
        + ".",
        "",
        "Refusals:",
        "",
        "| models | reason |",
        "|---|---|",
    ]
    refusals = Counter(_general(o.note) for o in outcomes if o.place == "refused")
    lines += [f"| {count} | {reason} |" for reason, count in sorted(refusals.items(), key=lambda item: (-item[1], item[0]))]
    wrong = [f"- `{o.case}`: {o.note}" for o in outcomes if o.place == "wrong"]
    lines += ["", "Wrong answers, which are defects:", "", *wrong] if wrong else []
    lines += ["", "Tests whose numbers need more than 8 bits (held against the quantized model only):", ""]
    lines += [f"- `{name}`: {reason}" for name, reason in sorted(COARSE.items())]
    lines += ["", "Tests for which onnxruntime's answer for the float model is expected, because it differs from ONNX's:", ""]
    return [*lines, *(f"- `{name}`: {reason}" for name, reason in sorted(ONNXRUNTIME_DIFFERS.items()))]


_TITLES = {"aipu": "on the AIPU", "mixed": "on both", "cpu": "on the CPU", "refused": "refused", "wrong": "wrong"}


def _general(note: str) -> str:
    """A refusal without the names of one model: up to the first name, number or library detail."""
    for mark, text in _GENERAL.items():
        if mark in note:
            return text
    return note.split("  ")[0]


_GENERAL = {
    "has no": "onnxruntime has no implementation of an operator that is for the CPU",
    "Could not find an implementation": "onnxruntime has no implementation of an operator that is for the CPU",
    "is not a registered function/op": "onnxruntime has no implementation of an operator that is for the CPU",
    "Failed to find kernel": "onnxruntime has no implementation of an operator that is for the CPU",
    "onnxruntime cannot run": "onnxruntime does not support this form of an operator that is for the CPU",
    "onnxruntime failed": "onnxruntime does not support this form of an operator that is for the CPU",
    "is a tensor of": "an input or output has a type that NumPy and onnxruntime do not share (text, bfloat16, float8, int4, ...)",
    "is not a tensor of known rank": "a sequence, an optional or a value of unknown rank would pass into or out of the model",
    "is a sequence or an optional": "a sequence, an optional or a value of unknown rank would pass into or out of the model",
    "is not finite": "a value is NaN or infinite, so it has no range",
    "uses opset": "the opset is older than 9",
    "contradict each other": "ONNX's shape inference finds a contradiction",
}


def main() -> int:
    """Print the page, or write it to a file. Exit status 1 if any answer is wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page there instead of printing it")
    arguments = parser.parse_args()
    outcomes = survey()
    wrong = [o for o in outcomes if o.place == "wrong"]
    for o in wrong:
        print(f"{o.case}: {o.note}", file=sys.stderr)
    if arguments.write:
        write_atomic(arguments.write, document(outcomes).encode())
    else:
        print(document(outcomes), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
