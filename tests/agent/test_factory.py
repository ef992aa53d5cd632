"""From what a user wrote to an agent."""

from __future__ import annotations

import functools
import sys

import pytest

from pytest_harbor.agent import AgentError, CallableAgent, CommandAgent, NopAgent, OracleAgent, as_agent, load_callable
from pytest_harbor.task import Task


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working directory, and forget it afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_names_of_agents_that_come_along():
    assert isinstance(as_agent("oracle"), OracleAgent)
    assert isinstance(as_agent("nop"), NopAgent)


def test_a_callable_is_named_after_its_function_unless_told():
    def work(task, environment):
        pass

    assert as_agent(work).name == "work"
    assert as_agent(work, "mine").name == "mine"
    assert as_agent(functools.partial(work)).name == "partial"


def test_an_agent_stays_what_it_is():
    agent = CommandAgent("x")
    assert as_agent(agent) is agent


@pytest.mark.parametrize("value", [None, 42, object(), ["nop"], {}])
def test_what_is_no_agent_is_refused_with_what_would_be(value):
    with pytest.raises(AgentError) as caught:
        as_agent(value)
    for word in ("oracle", "nop", "openai", "MODULE:CALLABLE", "callable", "run()"):
        assert word in str(caught.value)


@pytest.mark.parametrize("value", ["orakel", "command", ":f", "mod:", ""])
def test_text_that_is_no_agent_is_refused_with_what_would_be(value):
    with pytest.raises(AgentError, match="MODULE:CALLABLE"):
        as_agent(value)


def test_a_callable_of_a_module_a_file_and_an_attribute(module):
    path = module("agents_of_load", "class Bot:\n    @staticmethod\n    def run(task, environment): return 7\n")
    for spec in ("agents_of_load:Bot.run", f"{path}:Bot.run", "agents_of_load.py:Bot.run"):
        assert load_callable(spec)(None, None) == 7
    assert isinstance(as_agent("agents_of_load:Bot.run"), CallableAgent)


def test_loading_leaves_the_search_path_alone(module):
    module("agents_of_load", "def f(task, environment): pass\n")
    before = list(sys.path)
    load_callable("agents_of_load:f")
    with pytest.raises(AgentError):
        load_callable("nosuch_of_load:f")
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
def test_a_module_that_does_not_do_is_refused_with_the_reason(module, text, messages, form):
    module("bad_of_load", text)
    with pytest.raises(AgentError) as caught:
        load_callable(f"{form.format('bad_of_load')}:f")
    for message in messages:
        assert message in str(caught.value)
    assert "bad_of_load" in str(caught.value)


def test_two_files_of_one_name_stay_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(f"def f(task, environment): return {folder!r}\n")
    functions = [load_callable(f"{tmp_path / folder / 'same.py'}:f") for folder in ("one", "two")]
    assert [function(None, None) for function in functions] == ["one", "two"]


def test_only_the_oracle_is_choosy(make_task):
    bare = Task.load(make_task("tb2/bare"))
    solved = Task.load(make_task("tb2/solved", solution="exit 0\n"))
    assert "solution/solve.sh" in OracleAgent().skip_reason(bare)
    assert OracleAgent().skip_reason(solved) is None
    for agent in (NopAgent(), CommandAgent("x"), CallableAgent(print)):
        assert agent.skip_reason(bare) is None
