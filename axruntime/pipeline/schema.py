"""The JSON Schema of model.json, from the types that read it.

`python -m axforge.axruntime.pipeline.schema > ax_models/model.schema.json` writes it.
"""

import sys

import msgspec

from axforge.axruntime.pipeline.descriptor import Descriptor


def schema_text() -> str:
    """The schema (JSON Schema 2020-12) as indented JSON with a final newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "axforge model.json", **msgspec.json.schema(Descriptor)}
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
