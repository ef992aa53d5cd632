"""The command `pytest-harbor clean`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pytest_harbor._util.text import plural
from pytest_harbor.errors import EngineUnavailable

if TYPE_CHECKING:
    from pytest_harbor.environment import Provider


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "clean", help="Remove containers and environments that runs have left behind, and optionally images"
    )
    parser.add_argument("--force", action="store_true", help="Also remove those of runs that are still in progress")
    parser.add_argument("--images", action="store_true", help="Also remove the images that were built for tasks")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if no provider is available."""
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.environment.namespace import NamespaceProvider

    removed = 0
    unavailable = []
    for provider, noun in ((DockerProvider(), "container"), (NamespaceProvider(), "environment")):
        try:
            removed += _clean_one(provider, noun, force=options.force, images=options.images)
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
    """Clean up after one provider and return the number of things removed."""
    removed = provider.remove_owned("all" if force else "ended")
    for name in removed:
        print(f"removed {noun} {name}")
    kept = 0 if force else provider.count_owned()
    if kept:
        print(f"kept {plural(kept, noun)} of runs that are still in progress; use --force to remove them too")
    removed_images = provider.remove_images() if images else []
    for name in removed_images:
        print(f"removed image {name}")
    return len(removed) + len(removed_images)
