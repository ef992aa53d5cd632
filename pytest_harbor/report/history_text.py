"""The history of agents as text: a table of runs, and the tasks that began to fail or were fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytest_harbor._util import columns
from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.report import usage_text
from pytest_harbor.report.agent_rates import percent
from pytest_harbor.report.history import AgentRun, Change, changes
from pytest_harbor.report.table import Markup

# The most changes to list, unless all are to be shown, and the most names in a title.
MAX_CHANGES = 20
MAX_NAMES = 3

_GAP = "  "
_LEFT = ("run", "model", "shard")
# What is dropped, one after the other, if a row is too long.
_DROPPED = ("trials", "model", "errors", "cost", "seconds")
_MODEL_COLUMNS = 16

_COLUMNS: dict[str, Callable[[AgentRun], str]] = {
    "run": lambda each: one_line(each.run),
    "shard": lambda each: one_line(each.shard) or "-",
    "model": lambda each: columns.fit(_models([each]) or "-", _MODEL_COLUMNS),
    "tasks": lambda each: f"{len(each.tasks):,}",
    "trials": lambda each: f"{len(each.rewards):,}",
    "passed": lambda each: percent(each.pass_rate),
    "reward": lambda each: "-" if each.mean is None else f"{each.mean:.3f}",
    "errors": lambda each: str(each.errors or "-"),
    "cost": lambda each: cost(each) if each.metered else "-",
    "seconds": lambda each: "-" if each.seconds is None else f"{each.seconds:,.1f}",
}


def lines(runs: Sequence[AgentRun], width: int, markup: Markup, *, every: bool = False) -> list[str]:
    """Return the history of one agent on one dataset as lines that fit a terminal.

    Args:
        runs: the runs, the oldest first.
        width: columns of the terminal.
        markup: colors a text for an outcome.
        every: whether to list all changes.

    """
    models = {each.models for each in runs}
    named = f", model {_models(runs)}" if len(models) == 1 and models != {()} else ""
    text = [columns.fit(f"{one_line(runs[0].dataset)} with {one_line(runs[0].agent) or 'no agent'}{named}", width)]
    text += _table(runs, width, markup)
    if any(each.tasks.keys() != runs[0].tasks.keys() for each in runs):
        text.append("the runs have different tasks; each reward is a mean over the run's own tasks")
    found = changes(runs)
    broke = [change for change in found if change.after.fails]
    fixed = [change for change in found if not change.after.fails]
    for title, some, outcome in (("began to fail", broke, "failed"), ("fixed", fixed, "passed")):
        if some:
            text.append(markup(f"{title} ({len(some)}):", outcome))
            # The latest ones matter most.
            shown = some if every else some[-MAX_CHANGES:]
            if len(shown) < len(some):
                text.append(f"  {plural(len(some) - len(shown), 'earlier one')}; use -v to list all")
            text += _changes(shown, width)
    return text


def cost(each: AgentRun) -> str:
    """Return the mean cost of a trial."""
    return usage_text.money(each.cost, estimated=each.estimated)


def _models(runs: Sequence[AgentRun]) -> str:
    return listed(
        [one_line(model, 80) for model in sorted({model for each in runs for model in each.models})], MAX_NAMES
    )


def _table(runs: Sequence[AgentRun], width: int, markup: Markup) -> list[str]:
    hidden = {
        "shard": not any(each.shard for each in runs),
        "model": len({each.models for each in runs}) < 2,
        "trials": all(len(each.rewards) == len(each.tasks) for each in runs),
        "errors": not any(each.errors for each in runs),
        "cost": not any(each.metered for each in runs),
    }
    cells = {name: [name, *map(cell, runs)] for name, cell in _COLUMNS.items() if not hidden.get(name)}
    widths = {name: max(map(columns.width, texts)) for name, texts in cells.items()}
    for name in _DROPPED:
        if _total(widths) > width:
            widths.pop(name, None)
    widths["run"] = max(8, min(widths["run"], widths["run"] + width - _total(widths)))
    rows = []
    for number in range(len(runs) + 1):
        parts = [
            columns.pad(columns.fit_middle(cells[name][number], size), size, right=name not in _LEFT)
            for name, size in widths.items()
        ]
        if number and "errors" in widths and runs[number - 1].errors:
            place = list(widths).index("errors")
            parts[place] = markup(parts[place], "error")
        rows.append(_GAP.join(parts).rstrip())
    return rows


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _changes(found: Sequence[Change], width: int) -> list[str]:
    rows = [
        (one_line(each.run.run), one_line(each.task), f"{each.before.share} -> {each.after.share}") for each in found
    ]
    sizes = [max(map(columns.width, column)) for column in zip(*rows, strict=True)]
    # The task is shortened first, then the run.
    for column, least in ((1, 12), (0, 8)):
        over = max(sum(sizes) + len(sizes) * len(_GAP) - width, 0)
        sizes[column] = max(min(sizes[column], least), sizes[column] - over)
    cells = [[columns.pad(columns.fit_middle(*cell), cell[1]) for cell in zip(row, sizes, strict=True)] for row in rows]
    return [columns.fit(f"{_GAP}{_GAP.join(row)}".rstrip(), width) for row in cells]


def to_json(runs: Sequence[AgentRun]) -> dict[str, Any]:
    """Return the history of one agent on one dataset as plain JSON values."""
    return {
        "dataset": runs[0].dataset,
        "agent": runs[0].agent,
        "runs": [
            {
                "run": each.run,
                "directory": str(each.directory),
                "started_at": each.started_at,
                "shard": each.shard,
                "models": list(each.models),
                "tasks": len(each.tasks),
                "trials": len(each.rewards),
                "passed": each.passed,
                "pass_rate": each.pass_rate,
                "mean_reward": each.mean,
                "errors": each.errors,
                "mean_cost": each.cost,
                "mean_seconds": each.seconds,
            }
            for each in runs
        ],
        "changes": [
            {
                "task": change.task,
                "run": change.run.run,
                "change": "began to fail" if change.after.fails else "fixed",
                "last_run": change.last.run,
                "before": {"passed": change.before.passed, "trials": len(change.before.rewards)},
                "after": {"passed": change.after.passed, "trials": len(change.after.rewards)},
            }
            for change in changes(runs)
        ],
    }
