"""python -m axforge.axcompiler.operators [--write FILE]: run the node tests of the onnx package and print what runs where."""

import argparse
import sys
from pathlib import Path

from axforge.axcompiler.container import write_atomic


def main() -> int:
    """Exit status 1 if any answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m axforge.axcompiler.operators", description=__doc__)
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page there instead of printing it")
    arguments = parser.parse_args()
    from axforge.axcompiler.operators.support import document
    from axforge.axcompiler.operators.survey import survey

    outcomes = survey()
    wrong = [o for o in outcomes if o.place == "wrong"]
    for o in wrong:
        print(f"{o.case}: {o.note}", file=sys.stderr)
    if arguments.write:
        write_atomic(arguments.write, document(outcomes).encode())
    else:
        print(document(outcomes), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
