"""The passes of the check stage, one in each module, in the order in which they run. A module that is here is found."""

from axforge.axcompiler.check.passes.base import ModelPass, PreparingPass, RepeatedPass
from axforge.axcompiler.passes import ordered, with_options
from axforge.axcompiler.registry import load_modules

PASSES = ordered(load_modules(__name__))
#: once, on the model as the file has it
ON_MODEL = tuple(one for one in PASSES if isinstance(one, ModelPass))
#: once, before the shapes are inferred
BEFORE_SHAPES = tuple(one for one in PASSES if isinstance(one, PreparingPass))
#: what runs again and again, on float models, on quantized ones, or on both
REPEATED = tuple(one for one in PASSES if isinstance(one, RepeatedPass))
#: over and over, until none of them changes anything
UNTIL_STABLE = tuple(one for one in REPEATED if one.on_float)
#: the same for a model that came quantized, whose weights stay quantized
UNTIL_STABLE_QUANTIZED = with_options((one for one in REPEATED if one.on_quantized), keep_dequantize=True)
