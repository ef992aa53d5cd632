"""Which task, agent and attempt a test is about, and the marks that come with it."""

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
    """What a test is about.

    Attributes:
        task: the task.
        agent: name of the agent, among those that are listed; empty where there is one at most.
        attempt: number of the attempt, from 1.
        problem: what a hook did wrong with the task; the test then says it and does not run.

    """

    task: Task
    agent: str = ""
    attempt: int = 1
    problem: HookError | None = None

    @property
    def which(self) -> str:
        """Agent and attempt, as far as they tell this test from others on the task; empty for the only one."""
        return attempt_label(self.agent, self.attempt)


NO_TASK = (
    "uses harbor_task and there are no tasks: give --harbor-dataset, or mark it with "
    '@pytest.mark.harbor(dataset="PATH")'
)


def assignment_of(item: pytest.Item) -> Assignment | None:
    """Return what a test is about, None where it is about no task."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("harbor_task") if callspec else getattr(item, "assignment", None)
    return found if isinstance(found, Assignment) else None


def assignments(
    tasks: Iterable[Task], node: pytest.Collector | pytest.Item, attempts: int, agents: Sequence[str] = ("",)
) -> Iterator[tuple[Assignment, list[pytest.Mark]]]:
    """Yield tasks times attempts times agents with their marks, after the hooks have had their say.

    One task after the other, as its agents share an image. Then one attempt after the other, and not one agent:
    neighbours, which workers have at the same time, need different set-ups, and do not wait for the same one to be
    made; and of a run that ends early all agents have about as many attempts.

    Args:
        tasks: the tasks.
        node: what collects them.
        attempts: how many each agent has.
        agents: names of the agents that are listed; one empty name where none are.

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
            # The item says what is wrong when it runs; a broken task must not keep the others from being collected.
            pass
        for attempt, agent in product(range(1, attempts + 1), agents):
            own = [_mark(f"agent_{_identifier(agent)}", node.config, "an agent that is listed")] if agent else []
            yield Assignment(chosen, agent, attempt, problem), [*marks, *own]


def _ask_hook(task: Task, node: pytest.Collector | pytest.Item) -> tuple[Task | None, HookError | None]:
    """Return the task that pytest_harbor_task makes of a task, None to leave it out, and what the hook did wrong."""
    try:
        answer: Any = node.ihook.pytest_harbor_task(task=task, config=node.config)
    except TaskError:
        return task, None
    except Exception as error:
        problem = HookError(f"the hook pytest_harbor_task raised {type(error).__name__}: {error}", "mend the hook")
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
    """Return the names of the marks that [metadata] gives a task: difficulty_<x>, category_<x>, tag_<x>."""
    pairs = [
        ("difficulty", task.difficulty),
        ("category", task.category),
        *(("tag", tag) for tag in task.tags),
    ]
    names = [f"{kind}_{_identifier(text)}" for kind, text in pairs if text and _identifier(text)]
    return list(dict.fromkeys(names))


def _mark(name: str, config: pytest.Config, what: str = "from [metadata] of a Harbor task") -> pytest.Mark:
    """Return a mark, registered so that --strict-markers knows it.

    Made directly and kept: `pytest.mark.<name>` reads all registered lines again at every name it has not seen, which
    is quadratic in the number of names.
    """
    known = config.stash.setdefault(_MARKS, {})
    if name not in known:
        known[name] = pytest.Mark(name, (), {}, _ispytest=True)
        if name != "harbor":
            config.addinivalue_line("markers", f"{name}: {what}")
    return known[name]


def _identifier(text: str) -> str:
    """Return a text as a name that `-m` can use."""
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
