"""The command as a module: `python -m pytest_harbor.cli`."""

import sys

from pytest_harbor.cli import main

sys.exit(main())
