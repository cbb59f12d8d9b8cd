"""What calibration measures: kinds of statistics, one for each file or small family, and the two artefacts that hold them.

Every file here is imported, and registers its kind. Calibration always collects the STANDARD ones, whichever algorithms are on: they
cost little, and switching an algorithm that needs no others then leaves the calibration as it is. It collects another kind when an
algorithm that is on needs it.
"""

from axforge.axcompiler.registry import load_modules
from axforge.axcompiler.statistics.base import STATISTICS, PlacedStatistic
from axforge.axcompiler.statistics.channels import ChannelMeans
from axforge.axcompiler.statistics.ranges import TensorRange

load_modules(__name__)

__all__ = ["STANDARD", "STATISTICS"]

STANDARD: tuple[type[PlacedStatistic], ...] = (TensorRange, ChannelMeans)
