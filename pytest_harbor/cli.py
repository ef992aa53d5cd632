"""The command `pytest-harbor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_harbor.errors import InfrastructureError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 where something could not be done."""
    parser = argparse.ArgumentParser(prog="pytest-harbor", description="Tools around Harbor tasks as pytest items.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    clean = commands.add_parser("clean", help="Remove what runs have left: containers, and images if you like")
    clean.add_argument("--force", action="store_true", help="Also containers of runs that are still going on")
    clean.add_argument("--images", action="store_true", help="Also the images that were built for tasks")
    options = parser.parse_args(arguments)
    try:
        return _clean(force=options.force, images=options.images)
    except InfrastructureError as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return 1


def _clean(*, force: bool, images: bool) -> int:
    from pytest_harbor.environment.docker import DockerProvider

    provider = DockerProvider()
    try:
        removed = provider.remove_owned("all" if force else "ended")
        for name in removed:
            print(f"removed container {name}")
        spared = 0 if force else provider.count_owned()
        if spared:
            print(f"left {spared} containers of runs that are still going on; --force removes them too")
        gone = provider.remove_images() if images else []
        for name in gone:
            print(f"removed image {name}")
        if not removed and not gone:
            print("nothing to remove")
    finally:
        provider.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
