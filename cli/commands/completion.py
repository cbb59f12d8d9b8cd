"""`axforge completion bash|zsh|fish`: a script for the shell, made of the parsers of the other commands."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from axforge.cli.commands import COMMANDS
from axforge.usage import Parser

EXAMPLES = (
    'eval "$(axforge completion bash)"          in ~/.bashrc',
    'eval "$(axforge completion zsh)"           in ~/.zshrc, after compinit',
    "axforge completion fish | source           in ~/.config/fish/config.fish",
)
#: Commands whose first word is the name of a model.
WITH_MODELS = ("accuracy", "bench", "check", "compile", "infer", "info", "serve")

SHELLS = ("bash", "zsh", "fish")
BASH = """\
_axforge() {
    local current=${COMP_WORDS[COMP_CWORD]} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version" -- "$current"))
        return
    fi
    case "${COMP_WORDS[1]}" in
@CASES@
    esac
    case "${COMP_WORDS[1]}:$current" in
        *:-*) ;;
        @MODELS@) words="$words $(axforge completion models 2>/dev/null)" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}
complete -o filenames -F _axforge axforge
"""
ZSH = """\
_axforge() {
    local -a words_here
    if (( CURRENT == 2 )); then
        compadd -- @COMMANDS@ --help --version
        return
    fi
    case "$words[2]" in
@CASES@
    esac
    case "$words[2]:" in
        @MODELS@) compadd -- ${(f)"$(axforge completion models 2>/dev/null)"} ;;
    esac
    _files
}
compdef _axforge axforge
"""


def parser(prog: str) -> Parser:
    """Its options."""
    found = Parser(prog, "Print a script that completes commands, options and models in a shell.", EXAMPLES)
    found.add_argument("shell", choices=(*SHELLS, "models"), help="the shell; `models` prints the names of all models")
    return found


def main(words: Sequence[str], prog: str) -> int:
    """Run the command; returns the exit status."""
    shell = parser(prog).parse_args(words).shell
    if shell == "models":
        print("\n".join(_models()))
    elif shell == "fish":
        print("\n".join(_fish()))
    else:
        template, take = (BASH, 'words="{}"') if shell == "bash" else (ZSH, "compadd -- {}")
        cases = [f"        {name}) {take.format(' '.join(flags))} ;;" for name, flags in _flags().items()]
        models = "|".join(f"{name}:*" for name in WITH_MODELS)
        print(template.replace("@COMMANDS@", " ".join(COMMANDS)).replace("@CASES@", "\n".join(cases)).replace("@MODELS@", models), end="")
    return 0


def _fish() -> list[str]:
    lines = [f"complete -c axforge -n __fish_use_subcommand -a {name} -d '{what}'" for name, (_, what) in COMMANDS.items()]
    for name, flags in _flags().items():
        lines += [f"complete -c axforge -n '__fish_seen_subcommand_from {name}' -l {flag[2:]}" for flag in flags]
    seen = f"__fish_seen_subcommand_from {' '.join(WITH_MODELS)}"
    return [*lines, f"complete -c axforge -n '{seen}' -a '(axforge completion models 2>/dev/null)'"]


def _flags() -> dict[str, list[str]]:
    """The long options of each command."""
    found = {}
    for name, (module, _) in COMMANDS.items():
        make = getattr(import_module(f"axforge.cli.commands.{module}"), "parser", None)
        actions = make(name)._actions if make else ()  # argparse has no public list of them
        found[name] = [flag for action in actions for flag in action.option_strings if flag.startswith("--")]
    return found


def _models() -> list[str]:
    from axforge.cli.tasks_runner import UserProject  # the scripts need no doit
    from axforge.tasks.project import zoo

    return zoo.names(UserProject(argparse.Namespace()).settings())
