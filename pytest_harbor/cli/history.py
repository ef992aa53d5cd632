"""The command `pytest-harbor history`: what agents achieved from run to run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_harbor.report.history import AgentRun

USAGE = 2

_COLORS = {"passed": "32", "failed": "31", "error": "31;1"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "history",
        help="Show rewards, cost and time of each agent over runs, and which tasks began to fail when",
        description="Exits with 0, with 1 if there is no finished run to show, and with 2 if the arguments are not "
        "valid.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN|DIR",
        help="Directory of a run, or one with runs in it, such as harbor-results",
    )
    parser.add_argument(
        "--agent", action="append", default=[], metavar="NAME", help="Only runs of this agent; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of tables")
    parser.add_argument("-v", "--verbose", action="store_true", help="List all tasks that began to fail or were fixed")
    return parser


def run(options: argparse.Namespace) -> int:
    """Show the history and return the exit status."""
    from pytest_harbor._util.text import one_line
    from pytest_harbor.report.history import agent_runs, histories
    from pytest_harbor.results import RunError, find_runs, read_run

    try:
        files = find_runs(options.runs)
    except (RunError, OSError) as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return USAGE
    found: list[AgentRun] = []
    for file in files:
        try:
            stored = read_run(file)
        except RunError as error:
            print(f"skipped: {one_line(str(error), None)}", file=sys.stderr)
            continue
        for problem in stored.corrupt:
            print(f"not read: {one_line(problem, None)}", file=sys.stderr)
        found += agent_runs(stored)
    if not found:
        print("pytest-harbor: there is no finished run", file=sys.stderr)
        return 1
    agents = sorted({each.agent for each in found})
    unknown = [name for name in options.agent if name not in agents]
    if unknown:
        there = ", ".join(map(one_line, agents))
        print(f"pytest-harbor: --agent: no run has agent {one_line(unknown[0])}; there are {there}", file=sys.stderr)
        return USAGE
    chosen = [each for each in found if not options.agent or each.agent in options.agent]
    _print(list(histories(chosen).values()), options)
    return 0


def _print(groups: Sequence[Sequence[AgentRun]], options: argparse.Namespace) -> None:
    from pytest_harbor.report.history_text import lines, to_json
    from pytest_harbor.report.workflow_commands import escape_commands, is_github_actions

    if options.json:
        print(json.dumps([to_json(runs) for runs in groups], indent=1))
        return
    width, colored = shutil.get_terminal_size().columns, _is_colored()

    def markup(text: str, outcome: str) -> str:
        return f"\x1b[{_COLORS[outcome]}m{text}\x1b[0m" if colored else text

    for number, runs in enumerate(groups):
        if number:
            print()
        for line in lines(runs, width, markup, every=options.verbose):
            print(escape_commands(line) if is_github_actions(os.environ) else line)


def _is_colored() -> bool:
    """Return whether to color, by the conventions that pytest follows, too."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")
