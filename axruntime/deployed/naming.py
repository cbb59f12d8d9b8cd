"""The models that have a name and no file yet: they are compiled by the tasks, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.models import NAME

#: a longer one names no file that could be made
_LONGEST = 128
#: Compiling runs doit, which keeps the state of one command line in its process; so it does not run in the user's.
_COMMAND = ("-m", "axforge.cli.compiled")


def is_name(path: Path | str) -> bool:
    """Whether a text is the name of a model and not the path of a file."""
    return (
        isinstance(path, str)
        and len(path) < _LONGEST
        and NAME.fullmatch(path) is not None
        and not path.endswith((".axmodel", ".zip", ".onnx"))
    )


def compiled(name: str) -> Path:
    """The compiled folder of a model of the zoo, or of the project around the current folder; it is compiled first if needed.

    Progress goes to stderr. Raises AxforgeError if there is no such model, or it cannot be compiled.
    """
    done = subprocess.run([sys.executable, *_COMMAND, name], stdout=subprocess.PIPE, text=True, check=False)
    folder = done.stdout.strip()
    if done.returncode or not folder:
        fix = "What is wrong is on stderr. `axforge list` shows the models; a compiled one is named by its path."
        raise AxforgeError(f"'{name}' is neither a file nor a model that can be compiled here", where=str(Path.cwd()), fix=fix)
    return Path(folder)
