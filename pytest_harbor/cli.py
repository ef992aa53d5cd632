"""The command `pytest-harbor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_harbor import cli_images
from pytest_harbor.errors import EngineUnavailable, InfrastructureError
from pytest_harbor.task import DatasetError

if TYPE_CHECKING:
    from pytest_harbor.environment import Provider


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 where something could not be done."""
    parser = argparse.ArgumentParser(prog="pytest-harbor", description="Tools around Harbor tasks as pytest items.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    clean = commands.add_parser(
        "clean", help="Remove what runs have left: containers and environments, and images if you like"
    )
    clean.add_argument("--force", action="store_true", help="Also those of runs that are still going on")
    clean.add_argument("--images", action="store_true", help="Also the images that were built for tasks")
    cli_images.add(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command == "images":
            return cli_images.run(options)
        return _clean(force=options.force, images=options.images)
    except (InfrastructureError, DatasetError) as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pytest-harbor: interrupted", file=sys.stderr)
        return 130


def _clean(*, force: bool, images: bool) -> int:
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.environment.namespace import NamespaceProvider

    removed = 0
    unavailable = []
    for provider, noun in ((DockerProvider(), "container"), (NamespaceProvider(), "environment")):
        try:
            removed += _clean_one(provider, noun, force=force, images=images)
        except EngineUnavailable as error:
            unavailable.append(f"{provider.name}: {error}")
        finally:
            provider.close()
    for problem in unavailable:
        print(f"pytest-harbor: {problem}", file=sys.stderr)
    if len(unavailable) == 2:
        return 1
    if not removed:
        print("nothing to remove")
    return 0


def _clean_one(provider: Provider, noun: str, *, force: bool, images: bool) -> int:
    """Clean up after one provider and return how much was removed."""
    removed = provider.remove_owned("all" if force else "ended")
    for name in removed:
        print(f"removed {noun} {name}")
    spared = 0 if force else provider.count_owned()
    if spared:
        print(f"left {spared} {noun}s of runs that are still going on; --force removes them too")
    gone = provider.remove_images() if images else []
    for name in gone:
        print(f"removed image {name}")
    return len(removed) + len(gone)


if __name__ == "__main__":
    sys.exit(main())
