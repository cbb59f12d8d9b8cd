"""Operators whose results are drawn again each time; they run on the CPU and are never folded."""

from axforge.axcompiler.operators.base import random

random("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
