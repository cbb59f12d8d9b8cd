"""The passes of the optimize stage, one in each module, in the order in which they run."""

from axforge.axcompiler.optimize.graph_edit import GraphPass
from axforge.axcompiler.optimize.passes.drop_identities import DropIdentities
from axforge.axcompiler.optimize.passes.drop_unused import DropUnused
from axforge.axcompiler.optimize.passes.fuse_padding import FusePadding
from axforge.axcompiler.optimize.passes.fuse_tables import FuseTables
from axforge.axcompiler.optimize.passes.fuse_tables_into_concat import FuseTablesIntoConcat
from axforge.axcompiler.optimize.passes.join_shapes import JoinShapes
from axforge.axcompiler.optimize.passes.merge_constants import MergeConstants
from axforge.axcompiler.optimize.passes.shuffles_to_takes import ShufflesToTakes

PASSES: tuple[GraphPass, ...] = (
    DropUnused(),
    DropIdentities(),
    ShufflesToTakes(),
    JoinShapes(),
    DropIdentities(),
    FuseTables(),
    FuseTablesIntoConcat(),
    FusePadding(),
    MergeConstants(),
)
