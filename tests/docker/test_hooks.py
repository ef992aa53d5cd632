"""The hooks in a conftest.py, each with the example in its docstring."""

from __future__ import annotations

import inspect
import textwrap

from harbor_runs import IMAGE, ONE, Harbor

from pytest_harbor.plugin import hookspecs

NAMES = [name for name in vars(hookspecs) if name.startswith("pytest_harbor_")]


def example(name: str) -> str:
    """Return the example code in a hook's docstring."""
    text = inspect.getdoc(getattr(hookspecs, name)) or ""
    _, mark, code = text.partition("::\n\n")
    assert mark, f"{name} has no example"
    return textwrap.dedent(code)


def test_examples_of_all_hooks(harbor: Harbor) -> None:
    # tests/proxy/test_cassettes.py runs the one of pytest_harbor_cassette_request, as nothing is recorded here.
    assert len(NAMES) == 10
    harbor.pytester.makeconftest("\n".join(example(name) for name in NAMES))
    easy, hard = {"difficulty": "easy"}, {"difficulty": "hard"}
    save = "env > /logs/agent/env.txt; cat /opt/agent/VERSION /task/instruction.md > /logs/agent/seen.txt\n"
    harbor.task("excluded", metadata={"tags": ["slow"]})
    harbor.task("solved", "Do it.", solve=save, metadata=easy)
    harbor.task(
        "in-python",
        "Do it.",
        solve="python3 --version > /logs/agent/python.txt\n",
        metadata={**easy, "category": "data"},
    )
    harbor.task("crashes", "Do it.", solve="mkdir -p /app; touch /app/core\n", metadata=easy)
    harbor.task("no-command", metadata=hard)
    run = harbor.run("-v", "-n2", agent=("--harbor-agent-command=no-such-agent",))
    assert {name: (result["outcome"], result["reward"], result["agent"]) for name, result in run.results.items()} == {
        "solved": ("passed", 1, "oracle"),
        "in-python": ("passed", 1, "oracle"),
        "crashes": ("failed", 0.5, "oracle"),
        "no-command": ("failed", 0, "command"),
    }, run.text
    assert run.file("solved", "agent/seen.txt") == "1.2\nDo it.\nBe brief."
    assert "HINT=this is solved\n" in run.file("solved", "agent/env.txt")
    assert run.file("in-python", "agent/python.txt").startswith("Python 3.12")
    assert run["in-python"]["image"]["ref"] == "python:3.12-slim"
    assert run["solved"]["image"]["ref"] == IMAGE
    assert run["crashes"]["metrics"] == {"verifier_reward": 1}
    lines = (harbor.path / "rewards.txt").read_text().splitlines()
    assert sorted(lines) == [
        "ds/crashes oracle 1 0.5",
        "ds/in-python oracle 1 1.0",
        "ds/no-command command 1 0.0",
        "ds/solved oracle 1 1.0",
    ]
    assert "2 passed, 2 failed, 0 unverified, 0 errors" in run.text


def test_hooks_that_fail(harbor: Harbor) -> None:
    harbor.pytester.makeconftest("""
        def pytest_harbor_image(task):
            if task.name == "image":
                raise ValueError("no image today")

        def pytest_harbor_environment_started(task, environment):
            if task.name == "started":
                environment.exec("no-such-program")

        def pytest_harbor_agent_env(task, variables):
            if task.name == "variables":
                variables[5] = None

        def pytest_harbor_reward(task, verification):
            if task.name == "reward":
                return 1 / 0
            if task.name == "reward-nan":
                return float("nan")

        def pytest_harbor_agent(task):
            if task.name == "agent":
                return 5

        def pytest_harbor_trial_finished(task, result):
            if task.name == "finished":
                raise ValueError("too late")
        """)
    names = ("image", "started", "variables", "reward", "reward-nan", "agent", "finished", "untouched")
    for name in names:
        harbor.task(name)
    run = harbor.run("-n2", "-v", "--harbor-infra-retries=0")
    expected = {**dict.fromkeys(names, "error"), "finished": "passed", "untouched": "passed"}
    assert run.outcomes() == expected, run.text
    assert "pytest_harbor_image raised ValueError: no image today" in run["image"]["reason"]
    assert "no-such-program" in run["started"]["reason"]
    assert "pytest_harbor_agent_env" in run["variables"]["reason"]
    assert "pytest_harbor_reward raised ZeroDivisionError" in run["reward"]["reason"]
    assert "pytest_harbor_reward" in run["reward-nan"]["reason"]
    assert "5 is not an agent" in run["agent"]["reason"]
    assert "INTERNALERROR" not in run.text


def test_fixtures_can_be_overridden(harbor: Harbor) -> None:
    harbor.pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def harbor_image(harbor_task, harbor_image):
            return "python:3.12-slim" if harbor_task.name == "in-python" else harbor_image

        @pytest.fixture
        def harbor_environment(harbor_environment):
            harbor_environment.exec("echo prepared > /prepared.txt")
            return harbor_environment

        @pytest.fixture
        def harbor_agent(harbor_task):
            def own(task, environment):
                environment.exec("python3 --version; cat /prepared.txt")
            return own
        """)
    harbor.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.harbor(dataset="ds", task="in-*")
        def test_cheap(harbor_trial):
            assert harbor_trial.reward == 1
            assert harbor_trial.result.agent == "own"
            assert (harbor_trial.directory / "agent/agent.log").read_text().endswith("prepared\\n")

        @pytest.mark.harbor(dataset="ds", task="in-*")
        def test_environment_only(harbor_environment):
            assert harbor_environment.exec("cat /prepared.txt").output == "prepared\\n"

        @pytest.mark.harbor(dataset="ds")
        def test_fails(harbor_trial):
            assert harbor_trial.reward == 5
        """
    )
    harbor.task("in-python", test=f"[ -e /prepared.txt ] && {ONE}")
    run = harbor.run("-v", "test_own.py", agent=())
    assert "2 passed" in run.text
    assert "1 failed" in run.text
    assert "assert harbor_trial.reward == 5" in run.text
    assert run["in-python"]["image"]["ref"] == "python:3.12-slim"
