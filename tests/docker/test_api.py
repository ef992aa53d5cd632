"""Trials run from a script or a notebook."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from harbor_runs import Harbor

from pytest_harbor import Dataset, DatasetError, Task, TrialHooks, TrialSettings, run_trial, run_trial_async
from pytest_harbor.agent import AgentError


def test_run_trial_matches_pytest(harbor: Harbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(harbor.path)
    harbor.task(
        "Größe and Space",
        solve="echo solved > /answer\n",
        test="test -e /answer && echo 1 > /logs/verifier/reward.txt\n",
    )
    harbor.task("broken").joinpath("task.toml").write_text("x = = 1\n")
    task = Dataset("ds")["Größe and Space"]
    solved = run_trial(task)
    assert (solved.outcome, solved.reward, solved.agent) == ("passed", 1.0, "oracle")
    assert set(solved.phases) == {"build", "start", "setup", "agent", "verify", "stop"}
    line = json.loads((solved.path.parent / "results.jsonl").read_text())
    assert (line["task"], line["reward"]) == ("ds/Größe and Space", 1.0)
    untouched = run_trial("ds/Größe and Space", "nop", settings=TrialSettings(threshold=0.0, missing_reward="error"))
    assert (untouched.outcome, untouched.reward) == ("unverified", None)
    broken = run_trial(Task.load("ds/broken"))
    assert broken.outcome == "error"
    assert "line 1, column 5" in broken.reason
    with pytest.raises(DatasetError, match="is not a task"):
        run_trial("nowhere")
    with pytest.raises(AgentError, match="no callable 'nosuch'"):
        run_trial(task, "json:nosuch")


def test_async_trials_run_concurrently(harbor: Harbor) -> None:
    harbor.task("one")
    harbor.task("two")
    seen: list[str] = []

    async def solve(task: Task, environment: Any) -> None:
        assert (await environment.exec("cat /task/instruction.md")).output == "true\n"
        seen.append(task.name)

    async def main() -> list[Any]:
        results = harbor.path / "harbor-results"
        tasks = Dataset(harbor.dataset)
        return await asyncio.gather(*(run_trial_async(task, solve, results=results) for task in tasks))

    assert [result.outcome for result in asyncio.run(main())] == ["passed", "passed"]
    assert sorted(seen) == ["one", "two"]


def test_trial_hooks(harbor: Harbor) -> None:
    class Half(TrialHooks):
        def reward(self, task: Task, environment: Any, verification: Any) -> float:
            return verification.reward.value / 2

    harbor.task("one")
    result = run_trial(harbor.dataset / "one", "nop", results=harbor.path / "harbor-results", hooks=Half())
    assert (result.outcome, result.reward, result.metrics) == ("failed", 0.5, {"verifier_reward": 1.0})
