"""A step is one file: put among the others it is known to model.json, to the schema and to the documentation."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.chain import kind_of_result, prepare
from axforge.axruntime.pipeline.postprocessing.nms import Nms
from axforge.axruntime.pipeline.postprocessing.topk import TopK
from axforge.axruntime.pipeline.postprocessing.yolov8 import DecodeYolov8
from axforge.axruntime.pipeline.step import BoxDecoder, Decoder, PostStep, register
from axforge.axruntime.pipeline.steps import POST_STEPS, PRE_STEPS
from axforge.axruntime.results.detections import Detections
from axforge.axruntime.results.tensors import Tensors

NEW_STEP = '''
from axforge.axruntime.pipeline.candidates import Candidates, DecoderContext
from axforge.axruntime.pipeline.step import BoxDecoder, Count, Outputs, register

@register
class DecodeNothing(BoxDecoder, frozen=True, tag="decode_nothing"):
    """Finds nothing."""
    takes = "anything"
    patience: Count = 3
    def __call__(self, outputs: Outputs, context: DecoderContext) -> Candidates:
        raise NotImplementedError
'''
USE = """
import sys
from axforge.axruntime.pipeline import postprocessing
postprocessing.__path__.append(sys.argv[1])
from axforge.axruntime.pipeline.descriptor import parse_descriptor
from axforge.axruntime.pipeline.documents import page_text, schema_text
text = b'{"name": "n", "preprocessing": [], "postprocessing": [{"type": "decode_nothing", "patience": %d}]}'
print(parse_descriptor(text % 5, "m").postprocessing[0].patience)
try:
    parse_descriptor(text % 0, "m")
except Exception as e:
    print(e)
print("decode_nothing" in schema_text(), "Finds nothing." in page_text("<!-- postprocessing steps: generated -->\\n<!-- end -->"))
"""


def test_a_file_among_the_steps_is_a_step(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text(NEW_STEP)
    done = subprocess.run([sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    parsed, error, documents = done.stdout.strip().split("\n", 1)[0], done.stdout, done.stdout.splitlines()[-1]
    assert parsed == "5"
    assert "postprocessing[0].patience" in error
    assert documents == "True True"


def test_every_step_says_what_it_takes_gives_and_does() -> None:
    for step in (*PRE_STEPS.values(), *POST_STEPS.values()):
        assert step.__doc__, step
        assert not issubclass(step, PostStep) or (step.takes and step.gives)
    assert kind_of_result((TopK(), Nms())) is Detections
    assert kind_of_result(()) is Tensors


def test_two_steps_of_one_name_are_refused() -> None:
    class Other(Decoder, frozen=True, tag="nms"):
        """Has the name of another step."""

    with pytest.raises(TypeError, match="there is a step 'nms' already"):
        register(Other)


def test_a_decoder_works_alone() -> None:
    head = np.zeros((1, 5, 3), np.float32)
    head[0, :, :2] = np.float32([[50, 20, 20, 10, 0.9], [51, 20, 20, 10, 0.8]]).T
    context = DecoderContext(prepare((), np.zeros((40, 80, 3), np.uint8)), ("cat",))
    found = DecodeYolov8(classes=1)({"any": head}, context)
    assert isinstance(found, Candidates)
    assert found.boxes.tolist() == [[40, 15, 60, 25], [41, 15, 61, 25]]
    result = context.detections(Nms()(found))
    assert (result.boxes.tolist(), result.labels) == ([[40, 15, 60, 25]], ("cat",))


def test_a_dataset_without_thresholds_leaves_those_of_the_steps() -> None:
    step = DecodeYolov8(classes=1, confidence_threshold=0.4)
    assert step.for_measuring(None, None) == step
    assert Nms(iou_threshold=0.7).for_measuring(None, None) == Nms(iou_threshold=0.7)
    assert isinstance(step, BoxDecoder)
