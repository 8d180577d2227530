"""``python -m agent`` is ``gpu-finops``."""

import sys

from agent.cli import main

sys.exit(main())
