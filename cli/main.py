"""`axforge COMMAND …`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from axforge import __version__
from axforge.axcompiler.errors import AxforgeError
from axforge.axruntime import output
from axforge.axruntime.packages import missing_extra
from axforge.cli.commands import COMMANDS

HELP = """\
usage: axforge COMMAND [OPTION …]

From ONNX to an int8 .axmodel for a (virtual) Metis AIPU, and running it without hardware.

{commands}

  axforge COMMAND --help    all options of a command, with examples
  axforge --version

In a folder of your own:
  axforge infer my.onnx picture.jpg      propose a pipeline, compile, run
  axforge init my.onnx                   write the proposal to models/my/model.json, to correct it
"""


def main(argv: Sequence[str] | None = None, prog: str = "") -> int:
    """Run a sub-command; returns the exit status: 0 all is well, 1 a mistake of the user's, 2 wrong use or a bug, 130 stopped.

    prog: what the user typed instead of `axforge COMMAND`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    output.keep_streams_open()
    try:
        status = _dispatch(words, prog)
        sys.stdout.flush()  # here, where a closed pipe can still be answered
        return status
    except BrokenPipeError:  # `axforge list | head`
        output.discard_output()
        return 0
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept.", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if not (sentence := missing_extra(error)):
            raise
        hint = "\n  What is compiled runs without it: axforge run FOLDER SOURCE" if words[0] == "infer" else ""
        return _answer(prog or f"axforge {words[0]}", sentence + hint)
    except AxforgeError as error:
        return _answer(prog or f"axforge {words[0]}", str(error))
    except SystemExit as ended:  # argparse, or a task creator that has said why
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _dispatch(words: Sequence[str], prog: str) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:2] and words[1] in COMMANDS:
            return _dispatch([words[1], "--help"], prog)
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())), end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(f"axforge {__version__}")
        return 0
    if words[0] not in COMMANDS:
        kind = "option" if words[0].startswith("-") else "command"
        print(f"axforge: there is no {kind} {words[0]!r}. {_nearest(words[0])}", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str], str], int] = import_module(f"axforge.cli.commands.{COMMANDS[words[0]][0]}").main
    return run(words[1:], prog or f"axforge {words[0]}")


def _nearest(word: str) -> str:
    from difflib import get_close_matches  # only when something is wrong

    close = get_close_matches(word, COMMANDS, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(COMMANDS)}."


def _answer(prog: str, sentence: str) -> int:
    print(f"{prog}: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
