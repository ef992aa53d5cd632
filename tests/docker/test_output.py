"""The output of a run: terminal, JUnit XML and results.jsonl."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path

import pytest
from harbor_runs import ONE, Harbor, read_results, wait_for


def five_outcomes(harbor: Harbor) -> None:
    harbor.task("good", "echo good agent")
    harbor.task(
        "bad",
        "echo printed by the agent; printf '\\033[31mred\\007\\n'; exit 3",
        "echo printed by the tests\necho 0.25 > /logs/verifier/reward.txt\n"
        'echo \'{"reward": 0.25, "speed": 2.5}\' > /logs/verifier/reward.json\n',
    )
    harbor.task("none", test="echo crashed; exit 2\n")
    harbor.task("broken", image="pytest-harbor.invalid/none:1")
    harbor.task("later", steps_table={})
    toml = harbor.dataset / "later/task.toml"
    toml.write_text(toml.read_text().replace("[steps_table]", '[[steps]]\nname = "one"'))


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_terminal_and_junit(harbor: Harbor, workers: str) -> None:
    five_outcomes(harbor)
    run = harbor.run(workers, "-v", "--junitxml=junit.xml", "-o", "junit_family=xunit1", "-rs")
    assert run.code == 1
    text = run.text
    if workers == "-n0":
        words = {
            name: re.search(rf"::{name} (.*?) +\[", text)[1]
            for name in ("good", "bad", "none", "broken")  # type: ignore[index]
        }
    else:
        words = {name: re.search(rf"%\] (.*?) \S*::{name} ", text)[1] for name in ("good", "bad", "none", "broken")}  # type: ignore[index]
    assert words == {
        "good": "PASSED reward 1.00",
        "bad": "FAILED reward 0.25",
        "none": "UNVERIFIED reward 0.00",
        "broken": "ERROR",
    }

    assert "reward 0.25, needs 1; agent exited with 3 (agent command)" in text
    for expected in (
        "printed by the agent",
        "printed by the tests",
        str(run.trial("bad").relative_to(harbor.path)),
        "wrote neither reward.txt nor reward.json",
    ):
        assert expected in text
    assert "good agent" not in text
    assert "pytest_harbor/" not in text
    assert "Traceback" not in text
    assert "\x1b" not in text
    assert "\x07" not in text

    rows = dict(re.findall(r"^ds/(\w+) +command +([\d.-]+ +\w+)", text, re.MULTILINE))
    assert {name: row.split() for name, row in rows.items()} == {
        "good": ["1.00", "passed"],
        "bad": ["0.25", "failed"],
        "none": ["0.00", "unverified"],
        "broken": ["-", "error"],
        "later": ["-", "skipped"],
    }
    assert re.search(r"^5 trials: 1 passed, 1 failed, 1 unverified, 1 error, 1 skipped$", text, re.MULTILINE)
    assert "mean reward 0.417, pass rate 33.3% (1 of 3 passed)" in text
    assert "multi-step" in text

    cases = {case.get("name"): case for case in ElementTree.parse(harbor.path / "junit.xml").iter("testcase")}
    kinds = {name: [child.tag for child in case if child.tag != "properties"] for name, case in cases.items()}
    assert kinds == {"good": [], "bad": ["failure"], "none": ["failure"], "broken": ["error"], "later": ["skipped"]}
    properties = {p.get("name"): p.get("value") for p in cases["bad"].iter("property")}
    expected = {
        "harbor_task": "ds/bad",
        "harbor_agent": "command",
        "harbor_attempt": "1",
        "harbor_outcome": "failed",
        "harbor_reward": "0.25",
        "harbor_metric_speed": "2.5",
        "harbor_directory": str(run.trial("bad")),
    }
    assert expected.items() <= properties.items()
    assert float(properties["harbor_seconds_agent"] or "nan") > 0


def test_results(harbor: Harbor) -> None:
    five_outcomes(harbor)
    harbor.pytester.makeconftest("""
        import json, pathlib

        def pytest_runtest_logreport(report):
            # A result is on disk before it is reported.
            if report.when == "call" and report.nodeid.endswith("::good"):
                [file] = pathlib.Path().glob("harbor-results/*/results.jsonl")
                assert any(json.loads(line)["task"] == "ds/good" for line in file.read_text().splitlines())
                pathlib.Path("seen").touch()
        """)
    run = harbor.run()
    assert (harbor.path / "seen").exists(), run.text
    lines = read_results(run.directory)
    assert len(lines) == 5
    assert {line["schema_version"] for line in lines} == {1}
    assert {line["run"] for line in lines} == {run.directory.name}
    assert run.outcomes() == {
        "good": "passed",
        "bad": "failed",
        "none": "unverified",
        "broken": "error",
        "later": "skipped",
    }
    bad = run["bad"]
    assert list(bad["phases"]) == ["build", "start", "setup", "agent", "verify"]
    assert all(seconds >= 0 for seconds in bad["phases"].values())
    facts = (
        "task",
        "dataset",
        "agent",
        "attempt",
        "reward",
        "metrics",
        "threshold",
        "agent_exit",
        "verifier_exit",
        "provider",
    )
    assert {key: bad[key] for key in facts} == {
        "task": "ds/bad",
        "dataset": "ds",
        "agent": "command",
        "attempt": 1,
        "reward": 0.25,
        "metrics": {"speed": 2.5},
        "threshold": 1.0,
        "agent_exit": 3,
        "verifier_exit": 0,
        "provider": "docker",
    }
    assert run["none"]["verifier_exit"] == 2
    assert run["broken"]["reward"] is None
    assert run["later"]["reward"] is None
    started, finished = (datetime.fromisoformat(bad[key]) for key in ("started_at", "finished_at"))
    assert started < finished
    assert re.fullmatch("[0-9a-f]{64}", bad["task_digest"])
    assert "cannot be pulled" in run.file("broken", "exception.txt")
    assert (harbor.path / "harbor-results/.gitignore").read_text().splitlines()[-1] == "*"


def test_live_output(harbor: Harbor) -> None:
    # The agent continues only after its output was seen.
    harbor.task(
        "live",
        "echo agent is running; while ! [ -e /go ]; do sleep 0.05; done",
        f"echo tests are running; while ! [ -e /go-on ]; do sleep 0.05; done\n{ONE}",
    )
    process = harbor.spawn("-s")
    wait_for(lambda: "agent is running" in harbor.output, "output of the agent")
    [name] = harbor.containers()
    harbor.client.containers.get(name).exec_run(["touch", "/go"])
    wait_for(lambda: "tests are running" in harbor.output, "output of the tests")
    harbor.client.containers.get(name).exec_run(["touch", "/go-on"])
    assert process.wait(30) == 0, harbor.output


def test_passing_trial_shows_no_output(harbor: Harbor) -> None:
    harbor.task("quiet", "echo agent is running", f"echo tests are running\n{ONE}")
    run = harbor.run("--durations=0")
    assert run.code == 0
    assert "is running" not in run.text
    assert "are running" not in run.text
    assert "harbor: agent command (bash /task/instruction.md)" in run.text
    assert "harbor: environment docker (Engine " in run.text
    assert f"harbor: results {Path('harbor-results', run.directory.name)}" in run.text
