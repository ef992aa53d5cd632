"""The command `pytest-harbor gate`: judge runs that have ended, and put those of shards together."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_harbor.gate import GateSpec, Limit
    from pytest_harbor.report.github import Report
    from pytest_harbor.results import Merged

USAGE = 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "gate",
        help="Judge runs that have ended, those of several shards together, without running anything",
        description="Ends with 0 where the verdict is pass, 1 where it is regressed or a baseline was not written, 10 "
        "where it is inconclusive, and 2 where the arguments, the baseline or the runs cannot be used.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="Directory of a run, or its results.jsonl")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="Compare the rewards with those in FILE")
    parser.add_argument(
        "--gate",
        type=_rule,
        metavar="RULE",
        help="drop=SHARE, alpha=SHARE, pass-rate=SHARE, each, or several joined by commas "
        "(default drop=0.05,alpha=0.05)",
    )
    parser.add_argument(
        "--inconclusive",
        choices=("fail", "pass"),
        default="fail",
        help="What a verdict that cannot be reached means for the exit status (default fail, which is 10)",
    )
    parser.add_argument(
        "--max-infra-errors",
        type=_limit,
        metavar="N|SHARE",
        help="How many infrastructure errors, unverified trials or unreadable results leave the runs worth judging "
        "(default 0.1)",
    )
    parser.add_argument("--save-baseline", type=Path, metavar="FILE", help="Write the rewards of the runs to FILE")
    parser.add_argument(
        "--force-baseline",
        action="store_true",
        help="Write it also where there are infrastructure errors or results are missing",
    )
    parser.add_argument(
        "--github-comment",
        type=Path,
        metavar="FILE",
        help="Write the body of a comment to FILE, in Markdown; summary and annotations of GitHub Actions are written "
        "wherever GITHUB_ACTIONS is true",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="Leave no task out")
    return parser


def run(options: argparse.Namespace) -> int:
    """Judge, and return the exit status."""
    from pytest_harbor.gate import Baseline, BaselineError, GateSpec, Limit, confirmations_of, judge, samples_of
    from pytest_harbor.report.github import Report
    from pytest_harbor.results import RunError, merge

    judges = options.baseline is not None or options.gate is not None
    if not judges and options.save_baseline is None:
        return _refuse("give --baseline=FILE to compare with, --gate=RULE, or --save-baseline=FILE")
    try:
        baseline = Baseline.read(options.baseline) if options.baseline else None
    except BaselineError as error:
        return _refuse(f"--baseline: {error}")
    try:
        merged = merge(options.runs)
    except RunError as error:
        return _refuse(str(error))
    samples, limit = samples_of(merged.results), options.max_infra_errors or Limit()
    rule = options.gate or GateSpec()
    verdict = judge(samples, baseline, rule, limit, doubts=_doubts(merged, limit)) if judges else None
    _tell(options, merged, Report(merged.results, samples, verdict, confirmations_of(merged.results), None))
    status = verdict.exit_status(options.inconclusive) if verdict else 0
    if options.save_baseline and not _save(options, merged):
        status = status or 1
    return status


def _doubts(merged: Merged, limit: Limit) -> list[str]:
    """Return why the results are too few to be judged."""
    corrupt, whole = len(merged.corrupt), len(merged.corrupt) + len(merged.results)
    if limit.exceeded(corrupt, whole):
        return [*merged.gaps, f"{corrupt} of {whole} results cannot be read, and more than {limit} are too many"]
    return merged.gaps


def _tell(options: argparse.Namespace, merged: Merged, report: Report) -> None:
    """Print the verdict and what it rests on, and write what GitHub shows."""
    from pytest_harbor._util.text import one_line
    from pytest_harbor.report import attempts, github
    from pytest_harbor.report import usage_text as usage
    from pytest_harbor.report.terminal import agent_rates, totals
    from pytest_harbor.report.verdict_text import lines

    said = []
    if report.verdict:
        said += lines(report.verdict, report.samples, report.confirmations, every=options.verbose)
    said += [f"left out: {one_line(problem, None)}" for problem in merged.corrupt]
    said += [f"note: {one_line(note, None)}" for note in merged.notes]
    said += totals(merged.results, f"{len(merged.runs)} run{'' if len(merged.runs) == 1 else 's'}")
    said += [f"{one_line(agent)}: {told}" for agent, told in agent_rates(merged.results)]
    said += usage.lines(merged.results)
    said += attempts.lines(report.samples, flaky=report.verdict is None)
    on_github = github.active(os.environ)
    for line in said:
        print(github.disarm(line) if on_github else line)
    if on_github or options.github_comment:
        for line in github.publish(report, os.environ if on_github else {}, options.github_comment):
            if on_github or not line.startswith("::"):
                print(line)


def _save(options: argparse.Namespace, merged: Merged) -> bool:
    """Write the baseline and return True, or print why not and return False."""
    from pytest_harbor.gate import BaselineError, save_baseline

    try:
        message = save_baseline(options.save_baseline, merged.results, gaps=merged.gaps, forced=options.force_baseline)
    except BaselineError as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return False
    print(message)
    return True


def _refuse(message: str) -> int:
    print(f"pytest-harbor: {message}", file=sys.stderr)
    return USAGE


def _rule(text: str) -> GateSpec:
    from pytest_harbor.gate import GateSpec

    try:
        return GateSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _limit(text: str) -> Limit:
    from pytest_harbor.gate import Limit

    try:
        return Limit.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; {error}") from error
