#!/usr/bin/env python3
"""Run a model: `./inference.py MODEL SOURCE…`; `--help` tells the options. Runs the same tasks as `doit infer:MODEL:SOURCE`."""

import sys

from axforge.tasks.front import inference_main

if __name__ == "__main__":
    sys.exit(inference_main())
