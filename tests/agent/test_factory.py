"""Creating agents from what users write."""

from __future__ import annotations

import functools
import sys

import pytest

from pytest_harbor.agent import AgentError, CallableAgent, CommandAgent, NopAgent, OracleAgent, as_agent, load_callable
from pytest_harbor.task import Task


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module to the working directory; it is unloaded at teardown."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_built_in_agents():
    assert isinstance(as_agent("oracle"), OracleAgent)
    assert isinstance(as_agent("nop"), NopAgent)


def test_name_of_a_callable():
    def work(task, environment):
        pass

    assert as_agent(work).name == "work"
    assert as_agent(work, "mine").name == "mine"
    assert as_agent(functools.partial(work)).name == "partial"


def test_agent_is_returned_unchanged():
    agent = CommandAgent("x")
    assert as_agent(agent) is agent


@pytest.mark.parametrize("value", [None, 42, object(), ["nop"], {}])
def test_not_an_agent(value):
    with pytest.raises(AgentError) as caught:
        as_agent(value)
    for word in ("oracle", "nop", "openai", "MODULE:CALLABLE", "callable", "run()"):
        assert word in str(caught.value)


@pytest.mark.parametrize("value", ["orakel", "command", ":f", "mod:", ""])
def test_string_is_not_an_agent(value):
    with pytest.raises(AgentError, match="MODULE:CALLABLE"):
        as_agent(value)


def test_callable_from_module_file_and_attribute(module):
    path = module("agents_to_load", "class Bot:\n    @staticmethod\n    def run(task, environment): return 7\n")
    for spec in ("agents_to_load:Bot.run", f"{path}:Bot.run", "agents_to_load.py:Bot.run"):
        assert load_callable(spec)(None, None) == 7
    assert isinstance(as_agent("agents_to_load:Bot.run"), CallableAgent)


def test_loading_does_not_change_sys_path(module):
    module("agents_to_load", "def f(task, environment): pass\n")
    before = list(sys.path)
    load_callable("agents_to_load:f")
    with pytest.raises(AgentError):
        load_callable("missing_to_load:f")
    assert sys.path == before


@pytest.mark.parametrize(
    "text, messages",
    [
        ("import nosuchdependency\n", ["ModuleNotFoundError", "nosuchdependency"]),
        ("1 / 0\n", ["ZeroDivisionError"]),
        ("def f(:\n", ["SyntaxError"]),
        ("import sys; sys.exit(3)\n", ["SystemExit"]),
        ("VALUE = 1\n", ["no callable 'f'", "none"]),
        ("def g(task, environment): pass\ndef _hidden(): pass\nf = 1\n", ["no callable 'f'", "g"]),
    ],
)
@pytest.mark.parametrize("form", ["{}", "{}.py"])
def test_broken_module(module, text, messages, form):
    module("broken_to_load", text)
    with pytest.raises(AgentError) as caught:
        load_callable(f"{form.format('broken_to_load')}:f")
    for message in messages:
        assert message in str(caught.value)
    assert "broken_to_load" in str(caught.value)


def test_two_files_with_the_same_name(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(f"def f(task, environment): return {folder!r}\n")
    functions = [load_callable(f"{tmp_path / folder / 'same.py'}:f") for folder in ("one", "two")]
    assert [function(None, None) for function in functions] == ["one", "two"]


def test_only_oracle_skips_tasks(make_task):
    bare = Task.load(make_task("tb2/bare"))
    solved = Task.load(make_task("tb2/solved", solution="exit 0\n"))
    assert "solution/solve.sh" in OracleAgent().skip_reason(bare)
    assert OracleAgent().skip_reason(solved) is None
    for agent in (NopAgent(), CommandAgent("x"), CallableAgent(print)):
        assert agent.skip_reason(bare) is None
