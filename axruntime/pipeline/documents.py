"""What is generated from the types that read model.json: its JSON Schema, and the tables of steps in docs/models.md.

`python -m axforge.axruntime.pipeline.documents`, run at the top of the repository, writes both anew.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec

from axforge.axruntime.pipeline.descriptor import Descriptor
from axforge.axruntime.pipeline.step import BoxDecoder, PipelineStep, PostStep
from axforge.axruntime.pipeline.steps import POST_STEPS, PRE_STEPS

SCHEMA = Path("ax_models/model.schema.json")
PAGE = Path("docs/models.md")
#: A default that is longer than this is not shown in a table.
_SHOWN = 40


def schema_text() -> str:
    """The schema (JSON Schema 2020-12) as indented JSON with a final newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "axforge model.json", **msgspec.json.schema(Descriptor)}
    return msgspec.json.format(msgspec.json.encode(_without_indentation(schema), order="sorted"), indent=2).decode() + "\n"


def _without_indentation(schema: object) -> object:
    """A schema whose descriptions, which are docstrings, are the same whether this version of Python keeps their indentation or not."""
    if isinstance(schema, dict):
        return {k: inspect.cleandoc(v) if k == "description" and isinstance(v, str) else _without_indentation(v) for k, v in schema.items()}
    return [_without_indentation(part) for part in schema] if isinstance(schema, list) else schema


def page_text(page: str) -> str:
    """`page`, the text of docs/models.md, with its two tables of steps as the code is now."""
    for name, steps in (("preprocessing", PRE_STEPS), ("postprocessing", POST_STEPS)):
        start, end = f"<!-- {name} steps: generated -->\n", "<!-- end -->"
        before, _, after = page.partition(start)
        page = before + start + _table(steps) + end + after.partition(end)[2]
    return page


def _table(steps: Mapping[str, type[PipelineStep]]) -> str:
    post = any(issubclass(step, PostStep) for step in steps.values())
    head = ["step", "takes", "gives", "what it does", "parameters (default)"] if post else ["step", "what it does", "parameters (default)"]
    rows = [head, ["---"] * len(head), *(_row(step) for step in steps.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(step: type[PipelineStep]) -> list[str]:
    shared = {field.name: field.default for field in msgspec.structs.fields(BoxDecoder)} if issubclass(step, BoxDecoder) else {}
    own = [field for field in msgspec.structs.fields(step) if field.name not in shared or field.default != shared[field.name]]
    parameters = ", ".join(_parameter(field) for field in own)
    sides = [step.takes, step.gives.__name__.lower()] if issubclass(step, PostStep) else []
    return [f"`{step.tag()}`", *sides, " ".join(inspect.cleandoc(step.__doc__ or "").split()), parameters]


def _parameter(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT or field.default is None:
        default = ""
    else:
        default = msgspec.json.encode(field.default).decode().strip('"')
        default = f" ({default})" if len(default) <= _SHOWN else ""
    choices = get_args(field.type) if get_origin(field.type) is Literal else ()
    others = ", ".join(f"`{choice}`" for choice in choices if choice != field.default)
    return f"`{field.encode_name}`{default}" + (f": {'or ' if default else ''}{others}" if others else "")


def main() -> None:
    """Write both files, below the current folder."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
