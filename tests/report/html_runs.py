"""Sample runs for HTML pages."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_harbor.gate.baseline import Baseline, Sample
from pytest_harbor.gate.samples import samples_of
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.verdict import Verdict, judge
from pytest_harbor.report.html.calls import CALLS
from pytest_harbor.trial import TrialResult, Usage
from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.result import Retry
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

REWARDS = {"passed": 1.0, "failed": 0.25, "unverified": 0.0, "error": None, "skipped": None}


def result_of(task: str = "tb2/a", outcome: str = "passed", agent: str = "claude", **fields) -> TrialResult:
    given = {"run": "run1", "dataset": "tb2", "task_path": f"/{task}", "attempt": 1, "provider": "docker"}
    given |= {"reward": REWARDS[outcome], "phases": {"build": 0.5, "agent": 60.0, "verify": 2.0}, "task_digest": "d"}
    given |= {"started_at": "2026-11-21T08:00:00.000+00:00", "finished_at": "2026-11-21T08:01:10.000+00:00"}
    return TrialResult(task=task, agent=agent, outcome=outcome, **{**given, **fields})


def full_result(text: str = "text", directory: Path | str = "", **fields) -> TrialResult:
    """Return a trial with every field set, and the text wherever a text is possible."""
    given = {
        "run": text,
        "dataset": text,
        "reason": text,
        "metrics": {text: 1.5},
        "phase": text,
        "model": text,
        "agent_exit": 1,
        "agent_note": text,
        "verifier_exit": 3,
        "tests": InnerTests(1, 2, 3, 4, [InnerTest(text, text)]),
        "warnings": [text],
        "image": {"ref": text, "id": text, "source": text},
        "provider": text,
        "retries": [Retry(text, text, text)],
        "directory": str(directory),
        "node_id": text,
        "started_at": text,
        "finished_at": text,
        "usage": used(models={text: 3}, cost=None, unpriced=[text], estimated=1, replayed=1, retries=1),
        "budget": text,
    }
    return result_of(**{"task": text, "agent": text, "outcome": "failed", **given, **fields})


def used(**fields) -> Usage:
    """Return the usage of a trial: three model calls for four cents."""
    given = {"requests": 3, "input_tokens": 12_000, "cached_tokens": 8_000, "output_tokens": 500, "cost": 0.04}
    return Usage(**{**given, "reasoning_tokens": 100, "seconds": 4.5, "models": {"gpt-x": 3}, **fields})


def call(number: int = 1, **fields) -> dict:
    """Return a line of calls.jsonl as a dict."""
    tokens = {"input_tokens": 4_000, "cached_tokens": 2_500, "output_tokens": 150, "reasoning_tokens": 0}
    given = {"number": number, "at": "2026-11-21T08:00:02.500+00:00", "method": "POST", "path": "/v1/chat/completions"}
    given |= {"model": "gpt-x", "stream": True, "status": 200, "source": "upstream", "seconds": 1.5, "retry": False}
    given |= {"first_byte_seconds": 0.4, "usage": {**tokens, "estimated": False}, "cost": 0.0123, "error": ""}
    return {**given, **fields}


def write_calls(directory: Path, *calls: dict | str | bytes) -> Path:
    path = directory / CALLS
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [each if isinstance(each, str | bytes) else json.dumps(each) for each in calls]
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return directory


def write_logs(directory: Path, agent: str | bytes = "", tests: str | bytes = "") -> Path:
    for name, content in ((AGENT_LOG, agent), (TEST_LOG, tests)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    return directory


def verdict_on(results: list[TrialResult], before: float = 1.0) -> Verdict:
    """Return the verdict on a run against a baseline in which every trial had the same reward."""
    run = samples_of(results)
    samples = {
        key: Sample((before,) * len(sample.rewards), len(sample.rewards) if before >= 1 else 0, digest=sample.digest)
        for key, sample in run.items()
    }
    samples = {key: Sample(**{**vars(sample), "provider": run[key].provider}) for key, sample in samples.items()}
    return judge(run, Baseline(samples), GateSpec())


def long_run(tasks: int, attempts: int, root: Path | None = None) -> list[TrialResult]:
    """Return a run of many trials; with a root directory, each has logs."""
    outcomes = ("passed", "passed", "failed", "passed", "unverified", "passed", "error", "failed")
    results = []
    for number in range(tasks * attempts):
        outcome = outcomes[number % 8]
        place = number // attempts
        task = f"tb2/{('serve', 'train', 'parse')[place % 3]}-something-long-{place:04}"
        fields = {"attempt": number % attempts + 1, "node_id": f"{task}[{number}]"}
        if outcome == "failed":
            message = "AssertionError: assert 'a,b' == 'a,c'\n  - a,c\n  + a,b"
            fields["tests"] = InnerTests(5, 2, 0, 0, [InnerTest("test_rows", message), InnerTest("test_end", "x")])
        if outcome in ("error", "unverified"):
            fields["reason"] = "the engine did not answer within 120 s; check whether it is overloaded"
        if number % 5 == 0:
            fields["warnings"] = ["the task needs 8 CPUs, but the machine has 2"]
        if root is not None:
            lines = "".join(f"step {line}: \x1b[32mrunning\x1b[0m <b>make</b> & more\n" for line in range(200))
            fields["directory"] = str(write_logs(root / str(number), f"{lines}needle{number}\n", lines))
        if number % 3 == 0:
            fields["usage"] = used(cost=None if number % 2 else 0.04)
            fields["budget"] = "--harbor-max-turns=3 is spent" if number % 9 == 0 else ""
            if root is not None:
                write_calls(root / str(number), *(call(each + 1) for each in range(3 if number else 200)))
        results.append(result_of(task, outcome, **fields))
    return results
