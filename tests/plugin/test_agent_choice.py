"""The choice of the agent: options, ini keys, hook and fixture, and invalid choices."""

from __future__ import annotations

import pytest

SKIPPED = '[environment]\nos = "windows"\n'
NONE = "no agent was chosen for the Harbor tasks"
FIXES = ("--harbor-agent=oracle|nop|openai|MODULE:CALLABLE", "--harbor-agent-command=CMD", "harbor_agent")


def test_no_agent(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2")
    assert outcome.ret == 4
    outcome.has(f"ERROR: {NONE}", *FIXES)
    outcome.shows_no_bug()


@pytest.mark.slow
@pytest.mark.slow
def test_no_agent_in_workers(project):
    for name in "abc":
        project.task(f"tb2/{name}")
    outcome = project.run("--harbor-dataset=tb2", "-n", "2", subprocess=True)
    assert outcome.ret == 4
    outcome.has(f"ERROR: {NONE}", *FIXES)
    outcome.shows_no_bug()


def test_usage_error_leaves_no_files(project):
    project.task("tb2/a")
    project.run("--harbor-dataset=tb2")
    assert not [path for path in project.path.glob("harbor-results/*") if path.is_dir()]


@pytest.mark.parametrize("flag", ["--collect-only", "--setup-plan"])
def test_collect_only_and_setup_plan_need_no_agent(project, flag):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", flag)
    assert outcome.ret == 0
    outcome.lacks(NONE)


def test_setup_only_needs_no_agent(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--setup-only")
    assert outcome.ret == 1
    outcome.has("the Docker Engine does not answer")
    outcome.lacks(NONE)


def test_tests_without_agent_fixtures_need_no_agent(project):
    project.task("tb2/a")
    project.file(
        "test_mine.py",
        "def test_name(harbor_task): assert harbor_task.name == 'a'\ndef test_other(): pass\n",
    )
    outcome = project.run("--harbor-dataset=tb2", "test_mine.py")
    assert outcome.ret == 0, str(outcome)
    assert outcome.counts == {"passed": 2}


def test_fixture_override_needs_no_option(project):
    project.task("tb2/a")
    project.file("conftest.py", "import pytest\n@pytest.fixture\ndef harbor_agent():\n    return 'nop'\n")
    outcome = project.run("--harbor-dataset=tb2")
    assert outcome.ret == 1
    outcome.has("the Docker Engine does not answer")
    outcome.lacks(NONE)


def test_fixture_override_for_one_dataset(project):
    project.task("first/a")
    project.task("second/a")
    project.file("first/conftest.py", "import pytest\n@pytest.fixture\ndef harbor_agent():\n    return 'nop'\n")
    assert project.run("--harbor-dataset=first").counts == {"errors": 1}
    outcome = project.run("--harbor-dataset=first", "--harbor-dataset=second")
    assert outcome.ret == 4
    outcome.has(NONE)


def test_fixture_override_that_requests_the_original(project):
    project.task("tb2/a")
    project.file(
        "conftest.py", "import pytest\n@pytest.fixture\ndef harbor_agent(harbor_agent):\n    return harbor_agent\n"
    )
    outcome = project.run("--harbor-dataset=tb2")
    assert outcome.ret in (1, 4)
    outcome.has(NONE)
    outcome.shows_no_bug()


def test_hook_needs_no_option(project):
    project.task("tb2/a")
    project.file("conftest.py", "def pytest_harbor_agent(task): return 'nop'\n")
    outcome = project.run("--harbor-dataset=tb2")
    outcome.has("the Docker Engine does not answer")
    outcome.lacks(NONE)


def test_hook_that_chooses_for_some_tasks(project):
    project.task("tb2/a")
    project.task("tb2/b")
    project.file("conftest.py", "def pytest_harbor_agent(task): return 'nop' if task.name == 'a' else None\n")
    outcome = project.run("--harbor-dataset=tb2")
    assert outcome.counts == {"errors": 2}
    outcome.has(f"tb2/b [setup] {NONE}")
    outcome.shows_no_bug()


@pytest.mark.parametrize(
    "spec, messages",
    [
        ("nosuchmodule:f", ["nosuchmodule", "No module named 'nosuchmodule'"]),
        ("agents:run_fast", ["agents has no callable 'run_fast'", "run_slow"]),
        ("agents:VALUE", ["agents has no callable 'VALUE'", "run_slow"]),
        ("agents.py:run_fast", ["agents.py has no callable 'run_fast'", "run_slow"]),
        ("gone.py:f", ["gone.py does not exist"]),
        ("broken:f", ["importing broken for 'broken:f' failed: ZeroDivisionError"]),
        ("syntax:f", ["importing syntax for 'syntax:f' failed: SyntaxError"]),
        ("exits:f", ["importing exits for 'exits:f' failed: SystemExit"]),
    ],
)
def test_missing_callable(project, spec, messages):
    project.task("tb2/a")
    project.file("agents.py", "VALUE = 1\ndef run_slow(task, environment): pass\n")
    project.file("broken.py", "1 / 0\n")
    project.file("syntax.py", "def f(:\n")
    project.file("exits.py", "import sys\nsys.exit(3)\n")
    outcome = project.run("--harbor-dataset=tb2", f"--harbor-agent={spec}")
    assert outcome.ret == 4, str(outcome)
    outcome.has("ERROR: --harbor-agent: ", *messages)
    outcome.shows_no_bug()


def test_callable_in_the_working_directory(project):
    project.task("tb2/a", SKIPPED)
    project.file("agents.py", "def run_slow(task, environment): pass\n")
    for spec in ("agents:run_slow", "agents.py:run_slow"):
        outcome = project.run("--harbor-dataset=tb2", f"--harbor-agent={spec}")
        assert outcome.ret == 0, str(outcome)
        outcome.has("agent agents.run_slow")


@pytest.mark.slow
def test_missing_callable_in_workers_is_reported_once(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nosuch:f", "-n", "2", subprocess=True)
    assert outcome.ret == 4
    outcome.has("ERROR: --harbor-agent: ")
    outcome.shows_no_bug()


def test_agent_and_command_on_the_command_line(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-agent-command=x")
    assert outcome.ret == 4
    outcome.has("--harbor-agent=nop and --harbor-agent-command exclude each other")


def test_agent_and_command_in_the_ini_file(project):
    project.task("tb2/a")
    project.ini("harbor_agent = nop", "harbor_agent_command = x")
    assert project.run("--harbor-dataset=tb2").ret == 4


def test_command_agent_needs_a_command(project):
    outcome = project.run("--harbor-agent=command", "--collect-only")
    assert outcome.ret == 4
    outcome.has("--harbor-agent=command needs --harbor-agent-command=CMD")


@pytest.mark.parametrize(
    "ini, flags, shown",
    [
        ([], ["--harbor-agent=nop"], "agent nop,"),
        (["harbor_agent = nop"], [], "agent nop,"),
        (["harbor_agent = nop"], ["--harbor-agent=oracle"], "agent oracle,"),
        ([], ["--harbor-agent-command=run it"], "agent command (run it)"),
        ([], ["--harbor-agent=command", "--harbor-agent-command=run it"], "agent command (run it)"),
        (["harbor_agent_command = run it"], [], "agent command (run it)"),
        (["harbor_agent_command = run it"], ["--harbor-agent-command=other"], "agent command (other)"),
        (["harbor_agent_command = run it"], ["--harbor-agent=nop"], "agent nop,"),
        (["harbor_agent_command = run it"], ["--harbor-agent=command"], "agent command (run it)"),
        (["harbor_agent = nop"], ["--harbor-agent-command=run it"], "agent command (run it)"),
        (["harbor_agent_command = run it", "harbor_agent_name = mine"], [], "agent mine (run it)"),
        (
            ["harbor_agent_name = mine"],
            ["--harbor-agent-command=run it", "--harbor-agent-name=his"],
            "agent his (run it)",
        ),
    ],
)
def test_precedence(project, ini, flags, shown):
    project.task("tb2/a", SKIPPED)
    project.ini(*ini)
    outcome = project.run("--harbor-dataset=tb2", *flags)
    assert outcome.ret == 0, str(outcome)
    outcome.has(f"harbor: {shown}")


def test_empty_flag_overrides_the_ini_key(project):
    project.task("tb2/a")
    project.ini("harbor_agent_command = run it")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent-command=")
    assert outcome.ret == 4
    outcome.has(NONE)


def test_name_in_the_results(project):
    project.task("tb2/a")
    project.run("--harbor-dataset=tb2", "--harbor-agent-command=x", "--harbor-agent-name=mine v2")
    (result,) = project.results()
    assert result["agent"] == "mine v2"


@pytest.mark.parametrize("name", ["oracle", "nop"])
def test_agent_name_option_for_built_in_agents(project, name):
    project.task("tb2/a")
    project.run("--harbor-dataset=tb2", f"--harbor-agent={name}", "--harbor-agent-name=mine")
    (result,) = project.results()
    assert result["agent"] == "mine"


def test_hook_returns_an_invalid_agent(project):
    project.task("tb2/a")
    project.file("conftest.py", "def pytest_harbor_agent(task): return 42\n")
    outcome = project.run("--harbor-dataset=tb2")
    assert outcome.counts == {"errors": 1}
    outcome.has("pytest_harbor_agent", "oracle, nop", "MODULE:CALLABLE")
    outcome.shows_no_bug()


NO_MODEL = "ERROR: agent openai: no model is set; give --harbor-model=NAME"


def test_openai_agent_needs_a_model(project, monkeypatch):
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    project.task("tb2/a", SKIPPED)
    words = ["--harbor-dataset=tb2", "--harbor-agent=openai"]
    outcome = project.run(*words)
    assert outcome.ret == 4
    outcome.has(NO_MODEL)
    outcome.shows_no_bug()
    for more in ("--harbor-model=m", "--harbor-agent-env=OPENAI_MODEL=m", "--collect-only", "--setup-only"):
        assert project.run(*words, more).ret == 0, more
    project.file("conftest.py", "def pytest_harbor_agent_env(variables): variables['OPENAI_MODEL'] = 'm'\n")
    assert project.run(*words).ret == 0


def test_model_from_the_environment(project, monkeypatch):
    monkeypatch.setenv("OPENAI_MODEL", "m")
    project.task("tb2/a", SKIPPED)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=openai")
    assert outcome.ret == 0
    outcome.has("harbor: agent openai,")
