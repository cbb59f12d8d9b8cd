#!/usr/bin/env python3
"""Compile models: `python compile.py MODEL…`; `--help` tells the options. Runs the same tasks as `doit compile:MODEL`."""

import sys

from axforge.tasks.front import compile_main

if __name__ == "__main__":
    sys.exit(compile_main())
