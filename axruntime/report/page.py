"""The page of a compiled model. Everything it needs is in it, and its policy lets it load nothing.

Names come from the model's file. They are in the page as JSON in which no `<` occurs, and the script puts them into the page as text.
"""

from html import escape
from pathlib import Path

import msgspec

from axforge.axruntime.report.facts import Facts

_HERE = Path(__file__).parent


def html(facts: Facts) -> str:
    """The page."""
    data = msgspec.json.encode(facts).decode().replace("<", "\\u003c")
    page, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.html", "page.js"))
    before, rest = page.split("@TITLE@")
    middle, rest = rest.split("@DATA@")
    inside, after = rest.split("@SCRIPT@")
    return "".join([before, escape(facts.name), middle, data, inside, script, after])
