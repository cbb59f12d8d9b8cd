"""A mistake on a command line is answered with one sentence, whatever program it was typed for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from axforge.usage import Parser, positive

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("cli", "tasks", "cache", "axcompiler", "axruntime", "ax_models", "src/axforge")
MISTAKES = (
    ("axforge.cli.main", "run"),
    ("axforge.cli.main", "run", "model", "picture.jpg", "--no-such-option"),
    ("axforge.cli.main", "zoo", "show"),
    ("axforge.axruntime", "run", "model", "picture.jpg", "--frames", "0"),
    ("axforge.axruntime", "bundle", "folder", "--out", "x.zip"),  # an option that is only begun is not guessed
    ("axforge.cache", "explain"),
    ("axforge.axcompiler",),
    ("axforge.axruntime.propose",),
    ("axforge.axruntime.bench", "model", "--seconds", "never"),
)


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_sentence_and_status_2(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert not done.stdout
    assert re.fullmatch(r"[^\n]+: [^\n]+\n  `[^\n`]+ --help` shows how it is used\.\n", done.stderr), done.stderr


def test_every_parser_answers_like_that() -> None:
    files = [f for folder in PRODUCT for f in (ROOT / folder).glob("**/*.py") if not f.is_symlink()]
    made = [f.name for f in files if "= argparse.ArgumentParser(" in f.read_text(encoding="utf-8")]
    assert len(files) > 100
    assert made == []


def test_a_sub_parser_is_of_the_same_kind(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("program", "What it does.", ["program go 3"])
    parser.add_subparsers(required=True).add_parser("go").add_argument("count", type=positive)
    for words, said in (
        (["go"], "program go: the following arguments are required: count\n  `program go --help` shows how it is used.\n"),
        (["go", "0"], "program go: argument count: '0' is not a whole number of at least 1\n  `program go --help` shows how it is used.\n"),
        (["go", "³"], "program go: argument count: '³' is not a whole number of at least 1\n  `program go --help` shows how it is used.\n"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(words)
        assert capsys.readouterr().err == said
    assert parser.format_help().endswith("examples:\n  program go 3\n")
