"""`python -m axforge.cli.compiled MODEL`: compile a model if needed, and print where it then is. For `axforge.Model("MODEL")`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.packages import missing_extra


def main(words: Sequence[str]) -> int:
    """Compile the model that `words` names; its folder is the only line on stdout. Returns the exit status."""
    name = words[0]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            folder = _compiled(name)
    except ModuleNotFoundError as error:
        if not (sentence := missing_extra(error)):
            raise
        print(sentence, file=sys.stderr)
        return 1
    except AxforgeError as error:
        print(error, file=sys.stderr)
        return 1
    if folder is None:
        return 1
    print(folder)
    return 0


def _compiled(name: str) -> Path | None:
    """The compiled folder of a model; None if it could not be compiled, which has been said."""
    from axforge.cli.tasks_runner import UserProject  # needs the extra `compile`
    from axforge.tasks.project import ready, zoo
    from axforge.tasks.project.command_line import ModelOptions
    from axforge.tasks.project.plan import BuildPlan

    project = UserProject(argparse.Namespace())
    found = ready.find(name, ModelOptions(), project.settings())
    if found is not None:
        return found.compiled.resolve()
    if project.run([f"compile:{name}"]):
        return None
    here = project.settings()
    plan = BuildPlan(zoo.find(name, here), ModelOptions(), here)
    return (plan.own or plan.published).resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
