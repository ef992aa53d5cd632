"""The case of a test: its task, agent and attempt, and its markers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from pytest_harbor._util.text import attempt_label
from pytest_harbor.errors import HookError
from pytest_harbor.task import Task, TaskError

_MARKS: pytest.StashKey[dict[str, pytest.Mark]] = pytest.StashKey()


@dataclass(frozen=True)
class Assignment:
    """The task, agent and attempt of a test.

    Attributes:
        task: the task.
        agent: name of the agent if agents are listed, otherwise empty.
        attempt: number of the attempt, from 1.
        problem: what a hook did wrong with the task; the test then reports it instead of running.

    """

    task: Task
    agent: str = ""
    attempt: int = 1
    problem: HookError | None = None

    @property
    def label(self) -> str:
        """What distinguishes this test from others on the same task; empty for the only one."""
        return attempt_label(self.agent, self.attempt)


NO_TASK = (
    "requests harbor_task, but there are no tasks; give --harbor-dataset, or mark it with "
    '@pytest.mark.harbor(dataset="PATH")'
)


def assignment_of(item: pytest.Item) -> Assignment | None:
    """Return the assignment of a test, or None if the test is not about a task."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("harbor_task") if callspec else getattr(item, "assignment", None)
    return found if isinstance(found, Assignment) else None


def assignments(
    tasks: Iterable[Task], node: pytest.Collector | pytest.Item, attempts: int, agents: Sequence[str] = ("",)
) -> Iterator[tuple[Assignment, list[pytest.Mark]]]:
    """Yield tasks times attempts times agents with their markers, after calling the hook pytest_harbor_task.

    Tasks come one after the other, since a task's agents share its image. Within a task, attempts come before agents:
    neighbors, which workers run at the same time, then need different setups and do not wait for each other's; and if
    the run ends early, all agents have about the same number of attempts.

    Args:
        tasks: the tasks.
        node: the node that collects them.
        attempts: number of attempts of each agent.
        agents: names of the listed agents; a single empty name if none are listed.

    """
    for task in tasks:
        chosen, problem = _ask_hook(task, node)
        if chosen is None:
            continue
        marks = [_mark("harbor", node.config)]
        try:
            marks += [_mark(name, node.config) for name in mark_names(chosen)]
            if chosen.unsupported:
                marks.append(pytest.mark.skip(reason=chosen.unsupported).mark)
        except TaskError:
            # The item reports this when it runs; a broken task must not keep the others from being collected.
            pass
        for attempt, agent in product(range(1, attempts + 1), agents):
            own = [_mark(f"agent_{_identifier(agent)}", node.config, "a listed agent")] if agent else []
            yield Assignment(chosen, agent, attempt, problem), [*marks, *own]


def _ask_hook(task: Task, node: pytest.Collector | pytest.Item) -> tuple[Task | None, HookError | None]:
    """Return the task after calling pytest_harbor_task, or None to skip it, and what the hook did wrong."""
    try:
        answer: Any = node.ihook.pytest_harbor_task(task=task, config=node.config)
    except TaskError:
        return task, None
    except Exception as error:
        problem = HookError(f"the hook pytest_harbor_task raised {type(error).__name__}: {error}", "fix the hook")
        problem.__cause__ = error
        return task, problem
    if answer is None or answer is True:
        return task, None
    if answer is False:
        return None, None
    if isinstance(answer, Task):
        return answer, None
    return task, HookError(f"the hook pytest_harbor_task returned {answer!r}; it must return a Task, False or None")


def mark_names(task: Task) -> list[str]:
    """Return the names of a task's markers, which come from [metadata]: difficulty_<x>, category_<x>, tag_<x>."""
    pairs = [
        ("difficulty", task.difficulty),
        ("category", task.category),
        *(("tag", tag) for tag in task.tags),
    ]
    names = [f"{kind}_{_identifier(text)}" for kind, text in pairs if text and _identifier(text)]
    return list(dict.fromkeys(names))


def _mark(name: str, config: pytest.Config, what: str = "from [metadata] of a Harbor task") -> pytest.Mark:
    """Return a mark, registered for --strict-markers.

    Marks are created directly and kept, because `pytest.mark.<name>` reads all registered markers again for each new
    name, which is quadratic in the number of names.
    """
    known = config.stash.setdefault(_MARKS, {})
    if name not in known:
        known[name] = pytest.Mark(name, (), {}, _ispytest=True)
        if name != "harbor":
            config.addinivalue_line("markers", f"{name}: {what}")
    return known[name]


def _identifier(text: str) -> str:
    """Turn a text into a name that works in a `-m` expression."""
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
