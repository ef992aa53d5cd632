"""The command `pytest-harbor gate`: judge finished runs, and merge the runs of shards."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_harbor.gate import Baseline, GateSpec, Key, Limit, Rounds, Sample, Verdict
    from pytest_harbor.report.github import Report
    from pytest_harbor.report.junit import VerdictCase
    from pytest_harbor.results import Merged

USAGE = 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command to its parser."""
    parser = commands.add_parser(
        "gate",
        help="Judge finished runs, also several shards together, without running anything",
        description="Exits with 0 if the verdict is pass, 1 if it is regressed or a file was not written, 10 if "
        "it is inconclusive, 11 if the runs could not be judged, and 2 if the arguments, the baseline or a run is "
        "not valid.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="Directory of a run, or its results.jsonl")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="Compare the rewards with those in FILE")
    parser.add_argument(
        "--gate",
        type=_rule,
        metavar="RULE",
        help="drop=SHARE, alpha=SHARE, pass-rate=SHARE, cost=+SHARE, tokens=+SHARE, seconds=+SHARE, each, flip, "
        "versus=AGENT, or several of them joined by commas, and `; GROUP: RULE` for parts of the tasks (default: the "
        "table for the gate in pytest.toml or pyproject.toml here, else drop=0.05,alpha=0.05)",
    )
    parser.add_argument(
        "--inconclusive",
        choices=("fail", "pass"),
        help="The exit status of an inconclusive verdict: fail exits with 10, pass with 0 (default fail)",
    )
    parser.add_argument(
        "--max-infra-errors",
        type=_limit,
        metavar="N|SHARE",
        help="The most infrastructure errors, unverified trials or unreadable results before the runs are not "
        "judged (default 0.1)",
    )
    parser.add_argument(
        "--min-coverage",
        type=_share,
        metavar="SHARE",
        help="The least share of an agent's tasks in the baseline that must be compared (default 0.8)",
    )
    parser.add_argument(
        "--pool", action="store_true", help="Add up the attempts of runs of the same tasks, instead of refusing them"
    )
    save = parser.add_mutually_exclusive_group()
    save.add_argument("--save-baseline", type=Path, metavar="FILE", help="Write the rewards of the runs to FILE")
    save.add_argument(
        "--add-to-baseline",
        type=Path,
        metavar="FILE",
        help="Add the attempts of the runs to those in FILE; implies --pool",
    )
    parser.add_argument(
        "--force-baseline",
        action="store_true",
        help="Write all tasks, despite infrastructure errors or missing results",
    )
    parser.add_argument(
        "--github-comment",
        type=Path,
        metavar="FILE",
        help="Write the body of a comment to FILE, in Markdown; the step summary and annotations are written whenever "
        "GITHUB_ACTIONS is true",
    )
    parser.add_argument(
        "--junitxml",
        type=Path,
        metavar="FILE",
        help="Write the verdict to FILE as a test case in JUnit XML, for CI servers that read nothing else",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="Show every task")
    return parser


def run(options: argparse.Namespace) -> int:
    """Judge the runs, write what is asked for, and return the exit status."""
    try:
        return _run(options)
    except _UsageError as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return USAGE


class _UsageError(Exception):
    """Arguments, a baseline, a rule or a run that is not valid."""


def _run(options: argparse.Namespace) -> int:
    from pytest_harbor.gate import GateSpec, Limit, confirmations_of, empty_groups, labels_of, versus_problem
    from pytest_harbor.report.github import Report
    from pytest_harbor.report.junit import verdict_case
    from pytest_harbor.report.verdict_text import exit_note
    from pytest_harbor.results import RunError, merge

    found, source = _find_rule(options)
    rule, judges = found or GateSpec(), options.baseline is not None or found is not None
    _check(options, rule, judges=judges)
    baseline = _read("--baseline", options.baseline)
    adding = options.add_to_baseline
    pooled = _read("--add-to-baseline", adding) if adding and adding.exists() else None
    try:
        merged = merge(options.runs, pool=options.pool or adding is not None)
    except RunError as error:
        raise _UsageError(str(error)) from error
    if rule.versus and (wrong := versus_problem(rule.versus, {result.agent for result in merged.results})):
        raise _UsageError(f"{source}: versus={rule.versus}: {wrong}")
    if merged.rounds and (options.save_baseline or adding):
        raise _UsageError(
            "no baseline can be made of attempts that stopped at a verdict, as their rewards are biased; run a fixed "
            f"number of attempts, such as --harbor-attempts={merged.rounds[0].most}"
        )
    rounds, limit = _rounds(merged), options.max_infra_errors or Limit()
    samples, missing = _samples(merged, baseline, rounds)
    if problems := empty_groups(rule.groups, labels_of(samples, baseline.samples if baseline else {})):
        raise _UsageError("; ".join(f"{source}: {problem}" for problem in problems))
    doubts = [*_doubts(merged, limit, rounds), *missing]
    verdict = _judge(options, merged, samples, baseline, rule, doubts, rounds) if judges else None
    confirmations = confirmations_of(merged.results)
    _report(options, merged, Report(merged.results, samples, verdict, confirmations, None))
    status = verdict.exit_status(options.inconclusive or "fail") if verdict else 0
    if verdict and (note := exit_note(status, verdict, "--inconclusive")):
        print(note)
    if verdict and options.junitxml:
        case = verdict_case(verdict, samples, confirmations, status, "--inconclusive=pass")
        if not _write_junit(options.junitxml, case):
            status = status or 1
    if (options.save_baseline or adding) and not _save(options, merged, limit, pooled):
        status = status or 1
    return status


def _rounds(merged: Merged) -> Rounds | None:
    """Return the rounds of attempts of a run; None for several runs, and if the number of attempts was fixed."""
    from pytest_harbor.gate import Rounds

    if len(merged.rounds) != 1 or len(merged.runs) > 1:
        return None
    (log,) = merged.rounds
    return Rounds(log.complete, log.most)


def _samples(
    merged: Merged, baseline: Baseline | None, rounds: Rounds | None
) -> tuple[dict[Key, Sample], Sequence[str]]:
    """Return the samples of the runs, and why some that were taken from the baseline are missing."""
    from pytest_harbor._util.text import plural
    from pytest_harbor.gate import in_rounds, samples_of, samples_taken

    judged = in_rounds(merged.results, rounds)
    taken, missing = samples_taken(judged, baseline)
    if taken:
        what = f"{plural(len(taken), 'task')} not run again, as nothing had changed"
        merged.notes.append(f"{what}: the rewards are those of the baseline")
    return {**taken, **samples_of(judged)}, missing


def _judge(
    options: argparse.Namespace,
    merged: Merged,
    samples: Mapping[Key, Sample],
    baseline: Baseline | None,
    rule: GateSpec,
    doubts: Sequence[str],
    rounds: Rounds | None,
) -> Verdict:
    from pytest_harbor.gate import judge, with_rounds

    # Without the option, excluded trials must not decide either.
    limit, coverage = options.max_infra_errors, options.min_coverage
    verdict = judge(samples, baseline, rule, limit, doubts=doubts, min_coverage=coverage, rounds=rounds)
    if rounds is None:
        return verdict
    return with_rounds(verdict, rounds, merged.results, merged.planned, decided=merged.rounds[0].decided)


def _find_rule(options: argparse.Namespace) -> tuple[GateSpec | None, str]:
    """Return the rule, and where it is from: --gate, or a configuration file in the current directory."""
    from pytest_harbor.gate.toml_table import GateTableError, find_gate

    if options.gate is not None:
        return options.gate, "--gate"
    try:
        found = find_gate(Path())
    except GateTableError as error:
        raise _UsageError(str(error)) from error
    # A file says how runs are judged, not that every run is.
    if found is None or (options.baseline is None and found[1].needs_baseline):
        return None, ""
    return found[1], str(found[0])


def _check(options: argparse.Namespace, rule: GateSpec, *, judges: bool) -> None:
    """Check that the options go together, and that files can be written."""
    from pytest_harbor._util.files import check_writable

    if not judges and options.save_baseline is None and options.add_to_baseline is None:
        wanted = "--baseline=FILE to compare with, --gate=RULE, --save-baseline=FILE or --add-to-baseline=FILE"
        raise _UsageError(f"give {wanted}")
    if judges and options.baseline is None and rule.needs_baseline:
        raise _UsageError(rule.missing_baseline("--gate", "--baseline", "--save-baseline"))
    if problem := _without_effect(options, judges=judges):
        raise _UsageError(problem)
    for option, file in (("--github-comment", options.github_comment), ("--junitxml", options.junitxml)):
        try:
            if file:
                check_writable(file)
        except OSError as error:
            raise _UsageError(f"{option}: {file} cannot be written: {error.strerror}") from error


def _without_effect(options: argparse.Namespace, *, judges: bool) -> str:
    """Return which option would change nothing, with the fix; empty if all have an effect."""
    saves = options.save_baseline or options.add_to_baseline
    if not judges:
        for option in ("junitxml", "inconclusive"):
            if getattr(options, option):
                return f"--{option} is for a verdict; add --baseline=FILE to compare with, or --gate=RULE"
    if options.min_coverage is not None and options.baseline is None:
        return "--min-coverage is about the tasks of a baseline; add --baseline=FILE"
    if options.force_baseline and not saves:
        return "--force-baseline is for saving a baseline; add --save-baseline=FILE or --add-to-baseline=FILE"
    return ""


def _read(option: str, file: Path | None) -> Baseline | None:
    from pytest_harbor.gate import Baseline, BaselineError

    try:
        return Baseline.read(file) if file else None
    except BaselineError as error:
        raise _UsageError(f"{option}: {error}") from error


def _doubts(merged: Merged, limit: Limit, rounds: Rounds | None = None) -> list[str]:
    """Return why results are missing."""
    from pytest_harbor.gate import in_rounds

    counted = in_rounds(merged.results, rounds)
    spent = next((result.budget or result.reason for result in counted if result.cut_by_run), "")
    gaps = [*merged.gaps, *([f"a run was stopped: {spent}"] if spent else [])]
    corrupt, total = len(merged.corrupt), len(merged.corrupt) + len(merged.results)
    if limit.is_exceeded(corrupt, total):
        return [*gaps, f"{corrupt} of {total} results cannot be read, more than the limit of {limit}"]
    return gaps


def _report(options: argparse.Namespace, merged: Merged, report: Report) -> None:
    """Print the verdict and the totals, and write the reports for GitHub."""
    from pytest_harbor._util.text import one_line, plural
    from pytest_harbor.report import attempts, github, usage_text, verdict_text
    from pytest_harbor.report.terminal import agent_rates, totals
    from pytest_harbor.report.workflow_commands import escape_commands, is_github_actions

    lines = []
    if report.verdict:
        lines += verdict_text.lines(report.verdict, report.samples, report.confirmations, every=options.verbose)
    lines += [f"not read: {one_line(problem, None)}" for problem in merged.corrupt]
    lines += [f"note: {one_line(note, None)}" for note in merged.notes]
    lines += totals(merged.results, plural(len(merged.runs), "run"))
    lines += [f"{one_line(agent)}: {rates}" for agent, rates in agent_rates(merged.results)]
    lines += usage_text.lines(merged.results)
    lines += attempts.lines(report.samples, flaky=report.verdict is None)
    on_github = is_github_actions(os.environ)
    for line in lines:
        print(escape_commands(line) if on_github else line)
    if on_github or options.github_comment:
        for line in github.publish(report, os.environ if on_github else {}, options.github_comment):
            if on_github or not line.startswith("::"):
                print(line)


def _write_junit(file: Path, case: VerdictCase) -> bool:
    """Write the verdict and return True, or print why not and return False."""
    from pytest_harbor.report import junit

    try:
        junit.write(file, case)
    except OSError as error:
        print(f"pytest-harbor: --junitxml: {file} was not written: {error}", file=sys.stderr)
        return False
    return True


def _save(options: argparse.Namespace, merged: Merged, limit: Limit, pooled: Baseline | None) -> bool:
    """Write the baseline and return True, or print why not and return False."""
    from pytest_harbor.gate import BaselineError, save_baseline

    try:
        lines = save_baseline(
            options.save_baseline or options.add_to_baseline,
            merged.results,
            update=pooled,
            add=options.add_to_baseline is not None,
            gaps=_doubts(merged, limit),
            limit=limit,
            forced=options.force_baseline,
        )
    except BaselineError as error:
        print(f"pytest-harbor: {error}", file=sys.stderr)
        return False
    print("\n".join(lines))
    return True


def _rule(text: str) -> GateSpec:
    from pytest_harbor.gate import parse_gate

    try:
        return parse_gate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    from pytest_harbor.gate.spec import parse_share

    try:
        return parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; {error}") from error


def _limit(text: str) -> Limit:
    from pytest_harbor.gate import Limit

    try:
        return Limit.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; {error}") from error
