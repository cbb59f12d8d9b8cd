"""The node tests of the onnx package (written by others) go through the compiler, and docs/operators.md says what came of it."""

from collections import Counter
from pathlib import Path

import onnx_survey as judge
import operators_page as support
import pytest
from onnx_survey import Case, Outcome, cases, compile_case, survey

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return survey()


def test_every_answer_is_right_or_refused_with_a_sentence(outcomes: list[Outcome]) -> None:
    wrong = [f"{o.case}: {o.note}" for o in outcomes if o.place == "wrong"]
    assert not wrong, "\n".join(wrong)
    assert all(o.note.strip() for o in outcomes if o.place == "refused")


def test_most_tests_compile_and_many_run_in_int8(outcomes: list[Outcome]) -> None:
    places = Counter(o.place for o in outcomes)
    assert len(outcomes) > 1500
    assert places["refused"] < 0.25 * len(outcomes)
    assert places["aipu"] > 300


@pytest.mark.parametrize(
    "name",
    [
        "test_conv_with_strides_padding:frozen",
        "test_convtranspose_pads:frozen",
        "test_gemm_transposeB:frozen",
        "test_matmul_2d:frozen",
        "test_maxpool_2d_ceil",
        "test_averagepool_2d_ceil",
        "test_resize_upsample_scales_linear:frozen",
        "test_resize_upsample_scales_nearest:frozen",
        "test_reduce_mean_keepdims_random:frozen",
        "test_softmax_axis_1",
        "test_slice:frozen",
        "test_split_equal_parts_2d_opset13",
        "test_constant_pad:frozen",
        "test_depthtospace_example",
        "test_hardswish",
        "test_clip:frozen",
        "test_concat_2d_axis_1",
    ],
)
def test_these_run_on_the_aipu_alone(outcomes: list[Outcome], name: str) -> None:
    assert [o.place for o in outcomes if o.case == name] == ["aipu"]


def test_a_wrong_answer_is_noticed() -> None:
    """The judge itself: the right answer of another test is no right answer."""
    case = next(c for c in cases() if c.name == "test_relu")
    assert judge.outcome(case).place == "aipu"
    quantized, graph = compile_case(case)
    answer = {graph.outputs[0]: case.expected[0] + 1.0}
    assert judge._judge(case, quantized, graph, answer)[0] == "wrong"
    shifted = Case(**{**vars(case), "expected": (case.expected[0] + 1.0,)})
    assert judge.outcome(shifted).place == "wrong"


def test_the_page_is_what_the_run_prints(outcomes: list[Outcome]) -> None:
    text = PAGE.read_text()
    if support.versions() not in text:
        pytest.skip(f"the page was printed with other versions than {support.versions()}")
    assert text == support.document(outcomes), f"docs/operators.md is stale: {support.COMMAND}"


def test_the_page_has_every_constraint() -> None:
    text = PAGE.read_text()
    for line in support.described().splitlines():
        name, _, sentences = line.partition(": ")
        assert f"| {name} |" in text
        assert sentences in text
