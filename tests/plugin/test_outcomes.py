"""How pytest and other reporters see the outcomes of trials."""

from __future__ import annotations

import re

import pytest

from pytest_harbor.plugin.outcome import NoReward, TrialFailed

REWARDS = {"good": 1.0, "bad": 0.25, "lost": None}
OPTIONS = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0")


def test_failed_trial_is_a_failed_assertion_and_an_error_is_not():
    assert issubclass(TrialFailed, AssertionError)
    assert not issubclass(NoReward, AssertionError)


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_short_summary_has_the_node_id_second_and_then_the_reason(project, workers):
    project.rewards(**REWARDS)
    outcome = project.run(*OPTIONS, "-rA", *(["-n", "2"] if workers else []), subprocess=workers)
    summary = outcome.out.partition("short test summary info")[2]
    assert "PASSED tb2/good/task.toml::good\n" in summary
    assert "FAILED tb2/bad/task.toml::bad - reward 0.25, needs 1 (agent nop exited with 0)\n" in summary
    assert re.search(r"^ERROR tb2/lost/task.toml::lost - the container is gone", summary, flags=re.M)


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_error_of_the_agent_phase_is_an_error_at_call(project, workers):
    project.rewards(**REWARDS)
    outcome = project.run(*OPTIONS, *(["-n", "2"] if workers else []), subprocess=workers)
    outcome.has("ERROR at call of lost")
    outcome.lacks("ERROR at setup of")


def test_unverified_trial_is_listed_as_failed(project):
    project.rewards(odd="none")
    outcome = project.run(*OPTIONS, "-v")
    outcome.has("UNVERIFIED reward 0.00", 'FAILED tb2/odd/task.toml::odd - "reward" in reward.json is')


END_THE_TEST = """

def pytest_harbor_agent_env(variables):
    pytest.fail("Timeout (>1.0s) from a plugin")
"""


def test_end_from_outside_is_an_error_without_a_traceback(project):
    project.rewards(a=1.0)
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + END_THE_TEST)
    outcome = project.run(*OPTIONS)
    assert outcome.counts == {"errors": 1}
    outcome.has("tb2/a [agent] Timeout (>1.0s) from a plugin", "task.toml::a - Timeout (>1.0s) from a plugin")
    outcome.shows_no_bug()
    assert [result["outcome"] for result in project.results()] == ["error"]


@pytest.mark.parametrize("words", [("-qq",), ("--no-summary",)])
def test_no_table_if_no_summary_is_wanted(project, words):
    project.rewards(**REWARDS)
    outcome = project.run(*OPTIONS, *words, "--harbor-html=out.html")
    outcome.lacks("= harbor =", "pass rate", "results.jsonl", "page: ")
    assert (project.path / "out.html").exists()


def test_results_have_one_duration_and_no_blank_line(project):
    project.rewards(a=1.0)
    outcome = project.run(*OPTIONS)
    lines = outcome.out.splitlines()
    heading = next(number for number, line in enumerate(lines) if "= harbor =" in line)
    assert lines[heading + 1].startswith("task ")
    assert len(re.findall(r"\d s\b|\ds\b", "\n".join(lines[heading:]))) == 1, outcome
    assert all(len(line) <= 80 for line in lines[heading:] if not line.startswith("note: "))


def test_skips_have_their_reasons(project):
    project.rewards(a=1.0)
    project.task("tb2/odd", '[environment]\nos = "windows"\n')
    outcome = project.run(*OPTIONS)
    outcome.has("tb2/odd  nop         -  skipped        -  windows environments are not supported")


def test_color(project):
    project.rewards(**REWARDS)
    colored = project.run(*OPTIONS, "--color=yes", "--harbor-gate=pass-rate=0.9").out
    assert "\x1b[31mfailed" in colored
    assert re.search(r"(\x1b\[1m|\x1b\[3\dm){2}verdict: ", colored)
    assert "\x1b" not in project.run(*OPTIONS, "--color=no").out


def test_results_are_not_named_if_nothing_runs(project):
    project.rewards(a=1.0)
    outcome = project.run(*OPTIONS, "-k", "nosuch")
    outcome.lacks("harbor: results")
    assert not any(path.is_dir() for path in project.path.glob("harbor-results/*"))
    outcome = project.run(*OPTIONS)
    (directory,) = (path for path in project.path.glob("harbor-results/*") if path.is_dir())
    outcome.has(f"harbor: results {directory.relative_to(project.path)}\n")
    project.run("--harbor-dataset=tb2").has("harbor: no agent chosen, threshold 1")


def test_debugger_says_how_to_enter_the_environment(project):
    project.rewards(a=0.0)
    conftest = project.path / "conftest.py"
    conftest.write_text(f"{conftest.read_text()}\nimport pdb\npdb.Pdb.interaction = lambda *a, **k: print('STOPPED')\n")
    outcome = project.run(*OPTIONS, "--pdb", subprocess=True)
    assert outcome.counts == {"failed": 1}
    assert re.search(r"the environment of tb2/a is still running; enter it with\n    fake exec \S+ sh\n", outcome.out)
    outcome.has("`up` leads to the frame that has harbor_trial.environment")


def test_interrupt_says_what_is_being_stopped(project):
    project.rewards(a=0.0, b=1.0)
    project.file("agents.py", "def stop(task, environment): raise KeyboardInterrupt\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=agents.py:stop", subprocess=True)
    assert outcome.ret == 2
    outcome.has("harbor: interrupted; stopping 1 trial and removing what it left\n")
