"""`--harbor-changed`: tasks of deterministic agents are not run again if nothing has changed since the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from pytest_harbor._util.text import listed, plural
from pytest_harbor.agent import CommandAgent, NopAgent, OpenAIAgent, OracleAgent
from pytest_harbor.gate import Baseline, Key, Sample, joint_settings
from pytest_harbor.image.task_digest import task_digest
from pytest_harbor.plugin.cases import Assignment, assignment_of
from pytest_harbor.plugin.collection import HarborItem
from pytest_harbor.plugin.fingerprint import is_customized
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.trials import UNCHANGED, is_requested
from pytest_harbor.task import Task, TaskError

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession

_MAX_NAMES = 8

Group = list[tuple[pytest.Item, Assignment]]


def skip_unchanged(session: HarborSession, items: Iterable[pytest.Item]) -> list[str]:
    """Mark the tests of unchanged tasks to be skipped, and return lines that say how many, and why not the others.

    Args:
        session: the plugin's session.
        items: the tests that were collected.

    """
    baseline = session.gate.baseline
    groups = _groups(session, items)
    if baseline is None or not groups:
        return []
    reasons: dict[str, Counter[str]] = {}
    taken: Counter[str] = Counter()
    for key, group in groups.items():
        why = _agent_reason(session, group[0][1], baseline) or _reason(session, key, group, baseline.samples.get(key))
        reasons.setdefault(key[1], Counter())[why] += 1
        if not why:
            taken[key[1]] += 1
            for item, _ in group:
                item.add_marker(pytest.mark.skip(reason="unchanged since the baseline, whose rewards count"))
                item.stash[UNCHANGED] = True
    return _lines(reasons)


def _lines(reasons: Mapping[str, Counter[str]]) -> list[str]:
    lines = []
    for agent, found in sorted(reasons.items()):
        whole, unchanged = found.total(), found.pop("", 0)
        line = (
            f"{agent}: {unchanged} of {plural(whole, 'task')} not run again, as nothing has changed since the baseline"
        )
        again = [f"{plural(number, 'task')} {why}" for why, number in sorted(found.items())]
        lines.append(f"{line}; run: {listed(again, _MAX_NAMES)}" if again else line)
    return lines


def _groups(session: HarborSession, items: Iterable[pytest.Item]) -> dict[Key, Group]:
    """Return the tests that will run a trial, by task and agent."""
    groups: dict[Key, Group] = {}
    for item in items:
        assignment = assignment_of(item)
        if assignment is None or not is_requested(item) or item.get_closest_marker("skip"):
            continue
        if (agent := session.agents.agent(assignment.agent)) is not None:
            groups.setdefault((assignment.task.id, agent.name), []).append((item, assignment))
    return groups


def _agent_reason(session: HarborSession, assignment: Assignment, baseline: Baseline) -> str:
    """Return why no task of an agent can be left as it is, or an empty text."""
    agent = session.agents.agent(assignment.agent)
    if isinstance(agent, OracleAgent | NopAgent):
        pass
    elif session.options.proxy != "replay":
        return "because only oracle, nop and replayed model calls are deterministic"
    elif not isinstance(agent, CommandAgent | OpenAIAgent):
        return "because the agent's code on this machine may have changed"
    known, here = baseline.run.get("pytest_harbor"), version("pytest-harbor")
    return "" if known == here else f"because the baseline is of pytest-harbor {known or '(unknown)'}, not {here}"


def _reason(session: HarborSession, key: Key, group: Group, before: Sample | None) -> str:
    """Return why a task must run, or an empty text."""
    items, task = [item for item, _ in group], group[0][1].task
    if before is None:
        return "not in the baseline"
    if not all(isinstance(item, HarborItem) for item in items):
        return "used by tests of yours"
    if any(item.get_closest_marker("xfail") for item in items):
        return "marked xfail"
    if is_customized(items[0], task):
        return "with hooks or fixtures of a conftest.py"
    if _digest(task) != before.digest:
        return "changed"
    if open_runner(session).provider.name != before.provider:
        return "of another provider"
    if not before.settings:
        return "without settings in the baseline"
    if joint_settings(session.fingerprints.of(item) for item in items) != before.settings:
        return "with another agent, settings or cassettes"
    if before.errors or len(before.rewards) < len(items):
        return "with too few attempts in the baseline"
    if session.options.proxy != "replay" and len(set(before.rewards)) > 1:
        return "flaky in the baseline"
    return ""


def _digest(task: Task) -> str:
    try:
        return task_digest(task)
    except TaskError:
        return ""
