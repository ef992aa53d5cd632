"""Rules for parts of the tasks: those of a category, a difficulty or a dataset, or tasks by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import get_args

from pytest_harbor._util.text import listed
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.spec import GateSpec, Group, Kind

KINDS: tuple[Kind, ...] = get_args(Kind)

VALID = "category:NAME: RULE, difficulty:NAME: RULE, dataset:NAME: RULE or task:GLOB,GLOB: RULE"

# The most values in a message.
MAX_NAMES = 10


@dataclass(frozen=True)
class Labels:
    """What groups know of a task besides its id."""

    category: str = ""
    difficulty: str = ""


def members(group: Group, tasks: Mapping[str, Labels]) -> set[str]:
    """Return the ids of the tasks that belong to a group."""
    return {task for task, labels in tasks.items() if any(_fits(group.kind, v, task, labels) for v in group.values)}


def parse_gate(text: str) -> GateSpec:
    """Parse a rule for all tasks, followed by those for groups: `drop=0.05; category:security: each`.

    Raises:
        ValueError: it is not valid; the message shows what is.

    """
    first, *others = [part.strip() for part in text.split(";")]
    if _is_group(first):
        first, others = "", [first, *others]
    groups = [_parse_group(part) for part in others if part]
    if not first and not groups:
        return GateSpec.parse(text)
    return with_groups(GateSpec.parse(first) if first else GateSpec(), groups)


def with_groups(rule: GateSpec, groups: Iterable[Group]) -> GateSpec:
    """Return a rule with those for groups added.

    Raises:
        ValueError: two groups have the same name.

    """
    groups = tuple(groups)
    names = [group.name for group in groups]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is given twice; join its rules with a comma")
    return replace(rule, groups=groups)


def _is_group(text: str) -> bool:
    return ":" in text


def _parse_group(text: str) -> Group:
    selector, _, rule = text.rpartition(":")
    kind, colon, value = (word.strip() for word in selector.partition(":"))
    for known in KINDS:
        if colon and kind == known:
            values = tuple(word.strip() for word in value.split(",")) if known == "task" else (value,)
            return new_group(known, values, rule)
    near = get_close_matches(kind, KINDS, n=1)
    meant = f"; did you mean {near[0]}:?" if near and kind != near[0] else ""
    raise ValueError(f"{text!r} is not valid; use {VALID}{meant}")


def new_group(kind: Kind, values: Iterable[str], rule: str, label: str = "") -> Group:
    """Return a group.

    Raises:
        ValueError: a value is empty, or the rule is not valid.

    """
    values = tuple(values)
    if not values or not all(values):
        raise ValueError(f"{kind}: is empty; use {VALID}")
    try:
        return Group(kind, values, GateSpec.parse(rule.strip(), of_group=True), label)
    except ValueError as error:
        raise ValueError(f"{label or kind + ':' + ','.join(values)}: {error}") from error


def _fits(kind: Kind, value: str, task: str, labels: Labels) -> bool:
    dataset, _, name = task.partition("/")
    if kind == "task":
        return value in (name, task) or fnmatchcase(name, value) or fnmatchcase(task, value)
    # Marks do not tell upper from lower case either.
    own = {"category": labels.category, "difficulty": labels.difficulty, "dataset": dataset}[kind]
    return own.casefold() == value.casefold()


def labels_of(*parts: Mapping[Key, Sample]) -> dict[str, Labels]:
    """Return the tasks of samples with their labels; an earlier part takes precedence."""
    found: dict[str, Labels] = {}
    for samples in parts:
        for (task, _), sample in samples.items():
            if found.get(task, Labels()) == Labels():
                found[task] = Labels(sample.category, sample.difficulty)
    return found


def part_of(
    group: Group, run: Mapping[Key, Sample], baseline: Baseline | None
) -> tuple[dict[Key, Sample], Baseline | None]:
    """Return the samples of a group in a run and in a baseline, without the latter if the rule needs none."""
    tasks = members(group, labels_of(run, baseline.samples if baseline else {}))
    own = {key: sample for key, sample in run.items() if key[0] in tasks}
    if baseline is None or not group.rule.needs_baseline:
        return own, None
    return own, replace(baseline, samples={key: each for key, each in baseline.samples.items() if key[0] in tasks})


def empty_groups(groups: Iterable[Group], tasks: Mapping[str, Labels]) -> list[str]:
    """Return a message for each value of a group that no task fits, with those that were meant."""
    problems = []
    for group in groups:
        for value in group.values:
            if not any(_fits(group.kind, value, task, labels) for task, labels in tasks.items()):
                what = "no task matches" if group.kind == "task" else f"no task has the {group.kind}"
                problems.append(f"{group.name}: {what} {value!r}{_suggestion(group.kind, value, tasks)}")
    return problems


def _suggestion(kind: Kind, value: str, tasks: Mapping[str, Labels]) -> str:
    if kind == "task":
        names = sorted({name for task in tasks for name in (task, task.partition("/")[2])})
    elif kind == "dataset":
        names = sorted({task.partition("/")[0] for task in tasks})
    else:
        names = sorted({getattr(labels, kind) for labels in tasks.values()} - {""})
    near = get_close_matches(re.sub(r"[*?]", "", value), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if kind == "task":
        return ""
    return f"; there is {listed(names, MAX_NAMES)}" if names else f"; no task has a {kind}"
