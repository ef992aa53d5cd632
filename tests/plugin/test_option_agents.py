"""--harbor-agents: several agents in one run, their items, and invalid lists."""

from __future__ import annotations

import json

import pytest

from pytest_harbor.plugin.agents import Agents
from pytest_harbor.plugin.options.config import read_options

SKIPPED = '[environment]\nos = "windows"\n'
TWO = '[[agents]]\nname = "claude"\ncommand = "run claude"\n\n[[agents]]\nname = "codex"\nagent = "nop"\n'
IN_PYPROJECT = TWO.replace("[[agents]]", "[[tool.pytest-harbor.agents]]")
ALL = ("--harbor-dataset=tb2", "--harbor-agents=agents.toml")


@pytest.fixture
def two(project):
    """A project with two agents and two tasks."""
    project.task("tb2/a")
    project.task("tb2/b")
    project.file("agents.toml", TWO)
    return project


def agents(*names: str, **keys: str) -> str:
    """Return an agents file with nop agents."""
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return "\n".join(f'[[agents]]\nname = "{name}"\nagent = "nop"\n{more}' for name in names)


def usage_error(project, *args: str) -> str:
    outcome = project.run("--harbor-dataset=tb2", *args, "--collect-only")
    assert outcome.ret == 4, str(outcome)
    outcome.shows_no_bug()
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("ERROR: ")]
    return line


def chosen(project, *args: str) -> str:
    """Return the agents as the header shows them."""
    config = project.pytester.parseconfig(*args, "-p", "no:cacheprovider")
    return Agents(config, read_options(config)).describe()


def test_one_item_per_task_and_agent(two):
    ids = [f"tb2/{task}/task.toml::{task}[{name}]" for task in "ab" for name in ("claude", "codex")]
    assert two.ids(*ALL) == ids
    for selected in ids:
        assert two.ids("--harbor-agents=agents.toml", selected) == [selected]
    assert two.ids(*ALL, "-k", "claude") == ids[::2]
    assert two.ids(*ALL, "-m", "agent_codex", "--strict-markers") == ids[1::2]
    assert two.ids(*ALL, "--harbor-shard=2/2") in (ids[:2], ids[2:])


def test_attempts_alternate_between_agents(two):
    found = two.ids(*ALL, "--harbor-attempts=2", "--harbor-task=a")
    assert [node_id.partition("::")[2] for node_id in found] == ["a[claude]", "a[codex]", "a[claude-2]", "a[codex-2]"]
    assert two.ids("--harbor-agents=agents.toml", "--harbor-attempts=2", found[2]) == [found[2]]


def test_single_listed_agent(project):
    project.task("tb2/a")
    project.file("agents.toml", agents("only"))
    assert project.ids(*ALL) == ["tb2/a/task.toml::a[only]"]


def test_name_that_equals_an_attempt_of_another_agent(project):
    project.task("tb2/a")
    project.file("agents.toml", agents("claude", "claude-2", "claude-3"))
    assert len(set(project.ids(*ALL))) == 3
    error = usage_error(project, *ALL, "--harbor-attempts=2")
    assert "agents.toml" in error
    assert "'claude-2' means both attempt 2 of agent 'claude' and the agent of that name" in error


@pytest.mark.slow
@pytest.mark.slow
def test_node_ids_in_workers(two):
    ids = [f"tb2/a/task.toml::a[{which}]" for which in ("claude", "codex", "claude-2")]
    outcome = two.run("--harbor-agents=agents.toml", "--harbor-attempts=2", "-n", "2", "-v", *ids, subprocess=True)
    assert outcome.counts == {"errors": 3}, str(outcome)
    outcome.has(*ids)
    assert {(result["node_id"], result["agent"], result["attempt"]) for result in two.results()} == {
        (ids[0], "claude", 1),
        (ids[1], "codex", 1),
        (ids[2], "claude", 2),
    }


def test_header_and_run_record(two):
    outcome = two.run(*ALL, "--harbor-attempts=2", "--harbor-model=m1")
    outcome.has("harbor: agents claude, codex, 2 attempts, threshold 1")
    (record,) = two.path.glob("harbor-results/*/run.json")
    assert json.loads(record.read_text())["options"]["agents"] == "claude (command, m1), codex (nop, m1)"
    assert "run claude" not in record.read_text()


def test_user_tests(two):
    two.file(
        "test_mine.py",
        "import pytest\n\n"
        "@pytest.mark.harbor(task='a')\ndef test_trial(harbor_trial): pass\n\n"
        "@pytest.mark.harbor(task='a')\ndef test_image(harbor_image): pass\n",
    )
    ids = two.ids(*ALL, "--harbor-attempts=2", "test_mine.py")
    assert [node_id.partition("::")[2] for node_id in ids] == [
        *(f"test_trial[{name}]" for name in ("a-claude", "a-codex", "a-claude-2", "a-codex-2")),
        "test_image[a]",
        "test_image[a-2]",
    ]
    for node_id in ids:
        assert two.ids(*ALL, "--harbor-attempts=2", node_id) == [node_id]
    assert len(two.ids(*ALL, "test_mine.py", "-m", "agent_codex")) == 1


def test_node_ids_of_user_tests_are_unique(project):
    project.task("tb2/hello")
    project.task("tb2/hello-world")
    project.file("agents.toml", agents("bot", "world-bot"))
    project.file("test_mine.py", "def test_it(harbor_trial): pass\n")
    ids = project.ids(*ALL, "test_mine.py")
    assert len(set(ids)) == len(ids) == 4


def test_user_mark_without_other_options(project):
    project.task("tb2/a")
    project.file("agents.toml", agents("bot"))
    project.file("test_mine.py", "import pytest\n@pytest.mark.harbor('tb2')\ndef test_it(harbor_trial): pass\n")
    project.ini("harbor_agents = agents.toml")
    assert project.ids("test_mine.py") == ["test_mine.py::test_it[a-bot]"]
    project.file("agents.toml", "[[agents]]\n")
    outcome = project.run("test_mine.py")
    assert outcome.ret != 0
    outcome.has("agents.toml: agent 1: name is missing")
    outcome.shows_no_bug()


def test_invalid_table(project):
    project.task("tb2/a")
    project.file("agents.toml", TWO + 'where = "host"\n')
    error = usage_error(project, "--harbor-agents=agents.toml")
    assert error.startswith("ERROR: --harbor-agents: ")
    assert f'{project.path / "agents.toml"}: agent "codex": where "host" is not possible' in error


def test_missing_file(project):
    project.task("tb2/a")
    assert "nowhere.toml: the file is missing" in usage_error(project, "--harbor-agents=nowhere.toml")


def test_callable_that_cannot_be_imported(project):
    project.task("tb2/a")
    project.file("agents.toml", '[[agents]]\nname = "mine"\ncallable = "nosuchmodule:f"\n')
    outcome = project.run(*ALL)
    assert outcome.ret == 4
    outcome.has("ERROR: agent 'mine': ", "No module named 'nosuchmodule'")
    outcome.shows_no_bug()


def test_missing_agent_files(project):
    project.task("tb2/a")
    project.file("agents.toml", TWO + '[[agents]]\nname = "c2"\ncommand = "y"\nfiles = ["gone:/opt/gone"]\n')
    outcome = project.run(*ALL)
    assert outcome.ret == 4
    outcome.has("ERROR: agent 'c2': ", f"{project.path / 'gone'} does not exist")
    outcome.shows_no_bug()


def test_python_file_is_relative_to_the_agents_file(project):
    project.task("tb2/a", SKIPPED)
    project.file("conf/bots.py", "def solve(task, environment): pass\n")
    project.file("conf/agents.toml", '[[agents]]\nname = "mine"\ncallable = "bots.py:solve"\n')
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agents=conf/agents.toml")
    assert outcome.ret == 0, str(outcome)
    outcome.has("harbor: agent mine,")


@pytest.mark.parametrize(
    "ini, flags, names",
    [
        (["harbor_agents = agents.toml"], [], "agents claude, codex"),
        (["harbor_agents = agents.toml"], ["--harbor-agent=oracle"], "agent oracle"),
        (["harbor_agents = agents.toml"], ["--harbor-agent-command=x"], "agent command (x)"),
        (["harbor_agents = agents.toml"], ["--harbor-agent=nop", "--harbor-agent-name=idle"], "agent idle"),
        (["harbor_agents = agents.toml"], ["--harbor-agents=other.toml"], "agent other"),
        (["harbor_agents = agents.toml"], ["--harbor-agents=", "--harbor-agent=nop"], "agent nop"),
        (["harbor_agent = nop", "harbor_agent_name = n"], ["--harbor-agents=agents.toml"], "agents claude, codex"),
        (["harbor_agent_command = x"], ["--harbor-agents=agents.toml"], "agents claude, codex"),
    ],
)
def test_flags_override_the_ini_file(project, ini, flags, names):
    project.file("agents.toml", TWO)
    project.file("other.toml", agents("other"))
    project.ini(*ini)
    assert chosen(project, *flags) == names


@pytest.mark.parametrize(
    "ini, flags, other",
    [
        ([], ["--harbor-agents=agents.toml", "--harbor-agent=nop"], "--harbor-agents and --harbor-agent "),
        ([], ["--harbor-agents=agents.toml", "--harbor-agent-command=x"], "and --harbor-agent-command "),
        ([], ["--harbor-agents=agents.toml", "--harbor-agent-name=x"], "and --harbor-agent-name "),
        (["harbor_agents = agents.toml"], ["--harbor-agent-name=x"], "key harbor_agents and --harbor-agent-name "),
        (["harbor_agents = agents.toml", "harbor_agent = nop"], [], "and the ini key harbor_agent "),
    ],
)
def test_list_and_single_agent_are_mutually_exclusive(project, ini, flags, other):
    project.file("agents.toml", TWO)
    project.ini(*ini)
    with pytest.raises(pytest.UsageError, match=f"{other}exclude each other; give one of them"):
        chosen(project, *flags)


@pytest.mark.parametrize(
    "name, text, tables",
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\n", "tool.pytest-harbor"),
        ("pyproject.toml", "", "tool.pytest-harbor"),
        ("pytest.toml", "[pytest]\n", "pytest-harbor"),
        (".pytest.toml", "[pytest]\n", "pytest-harbor"),
    ],
)
def test_agents_in_the_ini_file(project, name, text, tables):
    if "pytest.toml" in name and int(pytest.__version__.partition(".")[0]) < 9:
        pytest.skip("new in pytest 9")
    project.file(name, text + TWO.replace("[[agents]]", f"[[{tables}.agents]]"))
    project.file("other.toml", agents("other"))
    assert chosen(project) == "agents claude, codex"
    assert chosen(project, "--harbor-agent=nop") == "agent nop"
    assert chosen(project, "--harbor-agents=other.toml") == "agent other"
    with pytest.raises(pytest.UsageError, match=rf"the agents that .*{name} lists and --harbor-agent-name exclude"):
        chosen(project, "--harbor-agent-name=x")
    project.file(name, f"{text}[[{tables}.agent]]\n")
    with pytest.raises(pytest.UsageError, match=rf'{name}: unknown key "agent"; list agents as tables \[\[{tables}'):
        chosen(project)


def test_run_with_agents_in_the_ini_file(two):
    two.file("pyproject.toml", IN_PYPROJECT)
    assert [node_id.partition("::")[2] for node_id in two.ids("--harbor-dataset=tb2/a")] == ["a[claude]", "a[codex]"]
    two.file("pyproject.toml", f'[tool.pytest.ini_options]\nharbor_agents = "agents.toml"\n{IN_PYPROJECT}')
    assert "lists agents and has the ini key harbor_agents" in usage_error(two)


def test_other_tables_of_the_ini_file_are_ignored(project):
    project.file("pyproject.toml", '[project]\nname = "x"\nversion = "1"\n[tool.other]\nagents = 3\n')
    assert chosen(project, "--harbor-agent=nop") == "agent nop"


def test_agents_from_hooks_and_fixtures_have_the_listed_name(two):
    two.file("conftest.py", "def pytest_harbor_agent(task): return 'nop' if task.name == 'a' else None\n")
    two.file(
        "tb2/conftest.py",
        "import pytest\nfrom pytest_harbor.agent import NopAgent\n\n"
        "@pytest.fixture\ndef harbor_agent(request, harbor_task, harbor_agent):\n"
        "    assert harbor_agent.name in request.node.name\n"
        "    return NopAgent('own') if harbor_task.name == 'b' else 'nop'\n",
    )
    outcome = two.run(*ALL)
    assert outcome.counts == {"errors": 4}, str(outcome)
    outcome.has("the Docker Engine does not answer")
    assert sorted(result["agent"] for result in two.results()) == ["claude", "claude", "codex", "codex"]


def test_regression_of_one_agent(two):
    two.rewards()
    run = (*ALL, "--harbor-attempts=5")
    two.file("rewards.json", json.dumps({"claude": 1.0, "codex": [1.0, 0.0, 1.0, 0.0, 1.0]}))
    outcome = two.run(*run, "--harbor-save-baseline=baseline.json")
    outcome.has(
        "claude: mean reward 1.000, pass rate 100.0% (10 of 10 passed)",
        "codex: mean reward 0.600, pass rate 60.0% (6 of 10 passed)",
        "baseline of 2 tasks",
    )
    baseline = json.loads((two.path / "baseline.json").read_text())["tasks"]
    assert {task: sorted(found) for task, found in baseline.items()} == {
        "tb2/a": ["claude", "codex"],
        "tb2/b": ["claude", "codex"],
    }
    assert two.run(*run, "--harbor-baseline=baseline.json").ret == 0
    two.file("rewards.json", json.dumps({"claude": 0.0, "codex": [1.0, 0.0, 1.0, 0.0, 1.0]}))
    outcome = two.run(*run, "--harbor-baseline=baseline.json", "--harbor-confirm=1")
    assert outcome.ret == 1
    outcome.has("regressed", "claude: 2 tasks got worse, more than chance explains", "rerun: 0 of 1 passed")
    outcome.lacks("codex: 2 tasks")


def test_openai_agent_needs_a_model(project):
    project.task("tb2/a", SKIPPED)
    project.file("agents.toml", agents("small", model='"m1"').replace("nop", "openai"))
    assert project.run(*ALL).ret == 0
    project.file("agents.toml", agents("small", "large").replace("nop", "openai"))
    outcome = project.run(*ALL)
    assert outcome.ret == 4
    outcome.has("ERROR: agent small: ", "--harbor-model")


def test_real_key_in_agent_env(project, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789")
    project.task("tb2/a")
    project.file("agents.toml", agents("claude", env='["OPENAI_API_KEY"]'))
    outcome = project.run(*ALL, "--harbor-proxy=live")
    assert outcome.ret == 4
    outcome.has("ERROR: agent 'claude': env: OPENAI_API_KEY holds a real API key")
    outcome.lacks("sk-real")
