"""The command `pytest-harbor convert`."""

from __future__ import annotations

import argparse
import sys


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser("convert", help="Write a task or a dataset in HUD's format")
    parser.add_argument("source", metavar="SRC", help="A task, a dataset, or a directory of datasets")
    parser.add_argument(
        "--output", required=True, metavar="DST", help="Folder to write; an earlier conversion is replaced"
    )
    parser.add_argument(
        "--skip-unsupported", action="store_true", help="End with 0 even if there are tasks that cannot be converted"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 where a task cannot be converted."""
    from pytest_harbor.hud.convert import convert

    done = convert(options.source, options.output)
    count = sum(len(environment.tasks) for environment in done.environments)
    if count:
        into = _counted(len(done.environments), "environment")
        print(f"converted {_counted(count, 'task')} into {into}: {options.output}")
    for environment in done.environments:
        print(f"  {environment.name} ({_counted(len(environment.tasks), 'task')})")
    for rejected in done.rejected:
        print(f"not converted: {rejected.task.id}: {rejected.reason}", file=sys.stderr)
    if not count:
        print("pytest-harbor: no task can be converted; nothing was written", file=sys.stderr)
        return 1
    return 1 if done.rejected and not options.skip_unsupported else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
