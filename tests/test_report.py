"""The page of a compiled model: what it says, and that nothing in a file runs in it."""

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from graphs import random_graph
from test_axmodel import KINDS, build

from axforge.axcompiler.ir import Island
from axforge.axruntime.__main__ import main
from axforge.axruntime.axmodel import AxModel
from axforge.axruntime.engines.sim.cycles import count_cycles
from axforge.axruntime.report import facts as facts_module
from axforge.axruntime.report.facts import Facts, facts_of
from axforge.axruntime.report.layout import places
from axforge.axruntime.report.page import html

RUNS = "document.title='RUN'"
EVIL = f'</script><!--<script>{RUNS}</script><img src=x onerror="{RUNS}">'


def hostile(folder: Path, name: str = EVIL) -> AxModel:
    """A model all of whose names and reasons are markup that would run."""
    graph = random_graph(11, KINDS)
    ops = [msgspec.structs.replace(op, name=f"{EVIL}{i}") for i, op in enumerate(graph.ops)]
    ops = [msgspec.structs.replace(op, reason=EVIL) if isinstance(op, Island) else op for op in ops]
    assert any(isinstance(op, Island) for op in ops)
    return AxModel.open(build(dataclasses.replace(graph, ops=tuple(ops)), folder, name=name))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AxModel:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def facts(model: AxModel) -> Facts:
    return facts_of(model)


class Tags(HTMLParser):
    """Names of all elements of a page, and the text of its scripts and of its title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")], (tag, attrs)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)
        if self.tags and self.tags[-1] == "title":
            self.title += data


def test_names_of_a_file_are_text_and_nothing_is_loaded(facts: Facts) -> None:
    written = html(facts)
    page = Tags(written)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert page.title.strip() == EVIL
    assert msgspec.json.decode(page.scripts[0], type=Facts) == facts
    assert "default-src 'none'" in written
    script = next(text for text in page.scripts if "use strict" in text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?:|fetch\(|import\(", script)


def test_the_facts_are_those_of_the_clock(model: AxModel, facts: Facts) -> None:
    cycles = count_cycles(model.program, model.target)
    assert facts.total == cycles.total == sum(layer.cycles for layer in facts.layers)
    assert [layer.at + layer.cycles for layer in facts.layers[:-1]] == [layer.at for layer in facts.layers[1:]]
    assert sum(layer.macs for layer in facts.layers) == sum(layer.macs for layer in cycles.layers)
    assert [layer.where == "CPU" for layer in facts.layers] == [isinstance(op, Island) for op in model.graph.ops]
    assert all(0 <= used <= there for layer in facts.layers for used, there in zip(layer.memory, facts.capacity, strict=True))
    assert max(layer.memory[0] for layer in facts.layers) > 0
    assert all(layer.memory[2] >= model.program.header.const_size for layer in facts.layers)
    assert sum(share for _, share in facts.limits) == pytest.approx(
        sum(layer.cycles for layer in facts.layers if layer.limit) / facts.total
    )
    for row in facts.rows:
        spans = list(zip(row.spans[::3], row.spans[1::3], row.spans[2::3], strict=True))
        assert all(a[2] <= b[1] + 1 for a, b in pairwise(spans)), "a unit does one thing at a time"
        assert max(end for *_, end in spans) <= facts.total
    assert {source for source, _ in facts.edges} | {target for _, target in facts.edges} <= set(range(len(facts.layers)))


def test_noise_is_shown_where_it_was_measured(model: AxModel, facts: Facts) -> None:
    name = model.graph.ops[0].outputs[0]
    measured = facts_of(model, {name: 0.25}).layers
    assert [layer.noise for layer in measured] == [0.25] + [0.0] * (len(measured) - 1)
    assert {layer.noise for layer in facts.layers} == {None}


def test_a_large_chart_is_drawn_with_fewer_spans(model: AxModel, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    many = sum(len(row.spans) // 3 for row in facts.rows)
    monkeypatch.setattr(facts_module, "MOST_SPANS", many // 2)
    fewer = facts_of(model)
    assert sum(len(row.spans) // 3 for row in fewer.rows) <= many // 2
    assert [row.title for row in fewer.rows] == [row.title for row in facts.rows]
    assert [row.spans[-1] for row in fewer.rows] == [row.spans[-1] for row in facts.rows], "each unit still ends when it ended"


def test_layers_have_places_of_their_own_below_what_they_read() -> None:
    reads = [[], [0], [0], [1, 2], [], [3, 4], [5], [0, 6]]
    found = places(reads)
    assert len(set(found)) == len(reads)
    assert all(found[node][1] > found[other][1] for node, others in enumerate(reads) for other in others)
    assert [column for column, _ in places([[], [0], [1], [2]])] == [0] * 4, "a chain is straight"
    assert places([]) == []


def test_the_command_writes_the_page(model: AxModel, facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(model.path), "-o", str(tmp_path / "r.html")]) == 0
    assert "r.html" in capsys.readouterr().out
    assert (tmp_path / "r.html").read_text() == html(facts)
    assert main(["report", str(model.path), "-o", str(model.path / "r.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_the_page_draws_itself_in_a_browser(facts: Facts, tmp_path: Path) -> None:
    """A script behind those of the page types into the search, sorts, and notes what became of it."""
    probe = """<script>
by("search").value = layers[1].name; by("search").dispatchEvent(new Event("input")); document.querySelectorAll("#layers th")[5].click();
const drawn = id => by(id).getContext("2d").getImageData(0, 0, by(id).width, by(id).height).data.some(v => v);
const seen = { found: by("found").textContent, rows: document.querySelectorAll("#layers tbody tr").length, name: by("name").textContent,
  drawn: ["graph", "gantt", "memory", "roofline"].map(drawn), title: document.title };
element("pre", encodeURIComponent(JSON.stringify(seen)), document.body).id = "seen";
</script></body>"""
    (tmp_path / "page.html").write_text(html(facts).replace("</body>", probe))
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*chromium, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=60, check=False)
    noted = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert noted, done.stdout[-500:] + done.stderr[-500:]
    seen = json.loads(re.sub(r"%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), noted[1]))
    assert seen["drawn"] == [True] * 4
    assert seen["rows"] == len(facts.layers)
    assert seen["found"].startswith("1 of ")
    assert seen["name"] == seen["title"] == EVIL
