"""The command `pytest-harbor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    convert = commands.add_parser("convert", help="Write a task or a dataset in HUD's format")
    convert.add_argument("source", metavar="SRC", help="A task, a dataset, or a directory of datasets")
    convert.add_argument(
        "--output", required=True, metavar="DST", help="Folder to write; an earlier conversion is replaced"
    )
    convert.add_argument(
        "--skip-unsupported", action="store_true", help="End with 0 even if there are tasks that cannot be converted"
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "convert":
            return _convert(options.source, options.output, skip_unsupported=options.skip_unsupported)
        return _clean(force=options.force, images=options.images)
    except (InfrastructureError, DatasetError) as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return 1


def _convert(source: str, output: str, *, skip_unsupported: bool) -> int:
    from pytest_harbor.hud.convert import convert

    done = convert(source, output)
    count = sum(len(environment.tasks) for environment in done.environments)
    if count:
        into = _counted(len(done.environments), "environment")
        print(f"converted {_counted(count, 'task')} into {into}: {output}")
    for environment in done.environments:
        print(f"  {environment.name} ({_counted(len(environment.tasks), 'task')})")
    for refusal in done.refused:
        print(f"not converted: {refusal.task.id}: {refusal.reason}", file=sys.stderr)
    if not count:
        print("pytest-harbor: no task can be converted; nothing was written", file=sys.stderr)
        return 1
    return 1 if done.refused and not skip_unsupported else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
