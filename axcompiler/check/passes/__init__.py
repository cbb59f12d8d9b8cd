"""The passes of the check stage, one in each module."""

from axforge.axcompiler.check.passes.base import ModelPass, NetPass
from axforge.axcompiler.check.passes.batch_norm_to_conv import BatchNormToConv
from axforge.axcompiler.check.passes.constants_to_initializers import ConstantsToInitializers
from axforge.axcompiler.check.passes.convert_opset import ConvertOpset
from axforge.axcompiler.check.passes.explicit_pads import ExplicitPads
from axforge.axcompiler.check.passes.fold_affine import FoldAffine
from axforge.axcompiler.check.passes.fold_constants import FoldConstants
from axforge.axcompiler.check.passes.fold_pad import FoldPad
from axforge.axcompiler.check.passes.inline_functions import InlineFunctions
from axforge.axcompiler.check.passes.matmul_to_gemm import MatMulToGemm
from axforge.axcompiler.check.passes.name_nodes import NameNodes
from axforge.axcompiler.check.passes.pin_inputs import PinInputs
from axforge.axcompiler.check.passes.plain_gemm import PlainGemm
from axforge.axcompiler.check.passes.remove_copies import RemoveCopies
from axforge.axcompiler.check.passes.remove_dead import RemoveDead
from axforge.axcompiler.check.passes.strip import Strip
from axforge.axcompiler.check.passes.tidy import Tidy
from axforge.axcompiler.check.passes.widen import Widen

#: once, on the model as the file has it
ON_MODEL: tuple[ModelPass, ...] = (Strip(), InlineFunctions(), Widen(), NameNodes(), ConvertOpset())
#: once, before the shapes are inferred
BEFORE_SHAPES: tuple[NetPass, ...] = (PinInputs(), Tidy(), ConstantsToInitializers())
#: over and over, until none of them changes anything
UNTIL_STABLE: tuple[NetPass, ...] = (
    FoldConstants(),
    RemoveCopies(),
    ExplicitPads(),
    FoldPad(),
    PlainGemm(),
    FoldAffine(),
    MatMulToGemm(),
    BatchNormToConv(),
    RemoveDead(),
)
#: the same for a model that came quantized, whose graph is what its maker chose
UNTIL_STABLE_QUANTIZED: tuple[NetPass, ...] = (FoldConstants(keep_dequantize=True), RemoveCopies(), RemoveDead())
PASSES = (*ON_MODEL, *BEFORE_SHAPES, *UNTIL_STABLE)
