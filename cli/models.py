"""The models that a command names: of the zoo, of the project, or an ONNX file that has no model.json yet."""

import os
import sys
from pathlib import Path

from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime.pipeline.models import model_names
from axforge.cli.tasks_runner import UserProject
from axforge.tasks.project import settings

#: Folder of proposals below the build root.
PROPOSED = "proposed"


def name_of(text: str, project: UserProject) -> str:
    """The name of the model that `text` names. For an ONNX file a model.json is proposed first. Raises AxforgeError."""
    if not text.endswith(".onnx"):
        if ":" in text and text.partition(":")[2] and "/" in text:
            raise AxforgeError(f"{text!r} is not the name of a model.", fix="`axforge list` shows them.")
        return text
    return propose(settings.PROJECT.settings().typed(text), project)


def propose(path: Path, project: UserProject) -> str:
    """Propose a model.json for the ONNX at `path`, say what was assumed, and have the tasks find it. Gives the model's name."""
    from axforge.axruntime.propose import writing  # loads onnx
    from axforge.axruntime.propose.propose import model_name
    from axforge.axruntime.propose.propose import propose as proposal_of

    here = project.settings()
    name = model_name(path)
    if name in model_names(here.models):
        name = f"{name}-onnx"  # the model of that name is another one, and is built elsewhere
    proposal = proposal_of(path, [settings.zoo_folder() / "labels"], here.data_root, name)
    folder = here.build_root / PROPOSED
    written = writing.write(proposal, folder, replace=True)
    settings.PROJECT.propose_in(folder)
    assumed = "; ".join(f"{choice.what} {choice.value}" for choice in proposal.choices if choice.sure != "certain") or "nothing"
    shown = os.path.relpath(written, project.typed_in)
    print(f"{path.name}: assumed {assumed}.\n  kept in {shown}; to correct it: axforge init {path.name}", file=sys.stderr)
    return name
