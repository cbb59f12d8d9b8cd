"""`python -m axforge.cache`."""

import sys

from axforge.cache.cli import main

sys.exit(main())
