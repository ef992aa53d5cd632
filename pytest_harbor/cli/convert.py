"""The command `pytest-harbor convert`."""

from __future__ import annotations

import argparse
import sys

from pytest_harbor._util.text import plural


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser("convert", help="Convert tasks to HUD's format")
    parser.add_argument("source", metavar="SRC", help="A task, a dataset, or a directory of datasets")
    parser.add_argument(
        "--output", required=True, metavar="DST", help="Directory to write; replaces an earlier conversion"
    )
    parser.add_argument(
        "--skip-unsupported", action="store_true", help="Exit with 0 even if some tasks cannot be converted"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if a task cannot be converted."""
    from pytest_harbor.hud.convert import convert

    done = convert(options.source, options.output)
    count = sum(len(environment.tasks) for environment in done.environments)
    if count:
        environments = plural(len(done.environments), "environment")
        print(f"converted {plural(count, 'task')} into {environments}: {options.output}")
    for environment in done.environments:
        print(f"  {environment.name} ({plural(len(environment.tasks), 'task')})")
    for rejected in done.rejected:
        print(f"not converted: {rejected.task.id}: {rejected.reason}", file=sys.stderr)
    if not count:
        print("pytest-harbor: no task can be converted; nothing was written", file=sys.stderr)
        return 1
    return 1 if done.rejected and not options.skip_unsupported else 0
