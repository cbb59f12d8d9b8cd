#!/usr/bin/env python3
"""Run a model: `./inference.py MODEL SOURCE…`; `--help` shows the options. Runs the same tasks as `doit infer:MODEL:SOURCE`."""

import sys

from axforge.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]], prog="inference.py"))
