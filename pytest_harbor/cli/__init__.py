"""The command `pytest-harbor`, with a module per subcommand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pytest_harbor.cli import clean, convert, gate, history, images
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.task import DatasetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for an error, or the status of a gate."""
    parser = argparse.ArgumentParser(prog="pytest-harbor", description="Tools for Harbor tasks as pytest items.")
    parser.add_argument("--version", action="version", version=f"pytest-harbor {version('pytest-harbor')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (images, convert, gate, history, clean):
        module.add(commands).set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except (InfrastructureError, DatasetError) as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; nothing may be left to write when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("pytest-harbor: interrupted", file=sys.stderr)
        return 130
