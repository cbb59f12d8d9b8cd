#!/usr/bin/env python3
"""Compile models: `python compile.py MODEL…`; `--help` shows the options. Runs the same tasks as `doit compile:MODEL`."""

import sys

from axforge.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["compile", *sys.argv[1:]], prog="compile.py"))
