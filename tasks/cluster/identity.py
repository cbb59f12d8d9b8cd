"""What must be the same here and on a worker, since the same key must mean the same bytes."""

from functools import lru_cache

from axforge.axcompiler.stages import STAGES
from axforge.axruntime.pipeline.descriptor import FEEDING_LIBRARIES
from axforge.tasks.project.plan import SDK, versions
from axforge.tasks.stages.code import sources


def identity() -> dict[str, str]:
    """Versions of axforge and of all libraries that decide bytes, and the code itself."""
    libraries = {name for stage in STAGES for name in stage.libraries} | set(FEEDING_LIBRARIES)
    return {"axforge": SDK, "code of axforge": _code(), **versions(tuple(sorted(libraries)))}


@lru_cache
def _code() -> str:
    return sources().everything()[:16]  # as it was at the first job: a worker goes on with the code that it has loaded
