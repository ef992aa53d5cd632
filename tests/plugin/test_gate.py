"""Gates on whole runs: nothing passes that was not measured."""

from __future__ import annotations

import json
import re

import pytest

from pytest_harbor.gate import Baseline, Sample

RUN = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0")


@pytest.fixture
def baseline(project):
    """Run the agent oracle on tasks, save the baseline, and return the options that compare with it."""

    def baseline(**rewards) -> str:
        project.rewards(**rewards)
        outcome = project.run(*RUN, "--harbor-agent-name=oracle", "--harbor-save-baseline=baseline.json")
        outcome.has("saved to ")
        for run in project.path.glob("harbor-results/*"):
            run.rename(project.path / run.name)
        return "--harbor-baseline=baseline.json"

    return baseline


def nothing_ran(project) -> bool:
    return not any(path.is_dir() for path in project.path.glob("harbor-results/*"))


# No baseline to compare with.


@pytest.mark.parametrize("rule", ["drop=0.05", "alpha=0.05", "pass-rate=0.5,drop=0.1", "each,alpha=0.1"])
@pytest.mark.parametrize("more", [(), ("--harbor-save-baseline=new.json",), ("--collect-only",)])
def test_comparing_rule_needs_a_baseline(project, rule, more):
    project.rewards(a=0.0)
    outcome = project.run(*RUN, f"--harbor-gate={rule}", *more)
    assert outcome.ret == 4
    outcome.has("compares with a baseline, and there is none", "--harbor-baseline=FILE", "--harbor-save-baseline=FILE")
    outcome.lacks("collected")
    assert nothing_ran(project)


def test_comparing_rule_in_an_ini_file_needs_a_baseline(project):
    project.rewards(a=1.0)
    project.ini("harbor_gate = drop=0.02")
    assert project.run(*RUN).ret == 4
    project.file("test_unit.py", "def test_it(): pass")
    assert project.run("test_unit.py").ret == 0, "a run without tasks does not care"


@pytest.mark.parametrize("rule, status", [("pass-rate=0.5", 0), ("pass-rate=0.9", 1), ("each", 1)])
def test_other_rules_need_none(project, rule, status):
    project.rewards(a=1.0, b=0.0)
    outcome = project.run(*RUN, f"--harbor-gate={rule}")
    assert outcome.ret == status
    outcome.has(f"(rule {rule})")


def test_first_update_of_a_baseline_is_no_pass(project):
    project.rewards(a=0.0)
    outcome = project.run(*RUN, "--harbor-baseline=new.json", "--harbor-update-baseline")
    assert outcome.ret == 0
    outcome.has("verdict: not judged", "there is no baseline to compare with", "saved to ")


@pytest.fixture
def pooling(project):
    """A function that runs a task and adds its rewards to the baseline."""
    project.rewards(a=1.0, b=0.0)

    def pooling(*options):
        run = (*RUN, "--harbor-attempts=2", "--harbor-baseline=baseline.json")
        return project.run(*run, "--harbor-update-baseline=add", *options)

    return pooling


def test_baseline_of_several_runs(project, pooling):
    assert pooling().ret == 0
    outcome = pooling()
    assert outcome.ret == 0
    outcome.has("baseline of 2 tasks saved to ", "baseline.json: 4 attempts; it has 4 per task")
    sample = Baseline.read(project.path / "baseline.json").samples["tb2/a", "nop"]
    assert [(run.attempts, bool(run.date)) for run in sample.runs] == [(2, True), (2, True)]
    assert {run.id for run in sample.runs} == {path.parent.name for path in project.path.glob("*/*/run.json")}
    outcome = project.run(*RUN, "--harbor-baseline=baseline.json", "-v")
    outcome.has("verdict: ", "over 2 tasks")


def test_plain_update_starts_over(project, pooling):
    pooling()
    outcome = project.run(*RUN, "--harbor-baseline=baseline.json", "--harbor-update-baseline", "tb2/a")
    assert outcome.ret == 4
    outcome.has("--harbor-update-baseline: 'tb2/a' is not valid; use replace or add")
    assert project.run(*RUN, "--harbor-baseline=baseline.json", "tb2/a", "--harbor-update-baseline").ret == 0
    samples = Baseline.read(project.path / "baseline.json").samples
    assert [len(samples[f"tb2/{name}", "nop"].rewards) for name in "ab"] == [1, 2]


def test_save_does_not_add_even_to_the_same_file(project, pooling):
    pooling()
    pooling("--harbor-save-baseline=copy.json")
    assert len(Baseline.read(project.path / "copy.json").samples["tb2/a", "nop"].rewards) == 2


def test_changed_task_starts_over_in_a_pooled_baseline(project, pooling):
    pooling()
    project.file("tb2/a/instruction.md", "Something else.\n")
    pooling().has("replaced, because the task has changed: tb2/a with nop (2 attempts)", "it has 2 to 4 per task")


def test_another_model_or_provider_is_refused_before_the_run(project, pooling):
    pooling()
    before = len(list(project.path.glob("harbor-results/*/run.json")))
    outcome = pooling("--harbor-model=other")
    assert outcome.ret == 4
    outcome.has(
        "--harbor-update-baseline=add: nothing can be added to ", "its model is unknown, and that of the run is "
    )
    outcome.has(
        "other (tb2/a with nop, tb2/b with nop); run with the same, or start over with --harbor-update-baseline"
    )
    assert len(list(project.path.glob("harbor-results/*/run.json"))) == before
    Baseline({("tb2/a", "nop"): Sample((1.0,), 1, provider="docker")}).write(project.path / "baseline.json")
    outcome = pooling()
    assert outcome.ret == 4
    outcome.has("its provider is docker, and that of the run is fake (tb2/a with nop)")


# Nothing in common with the baseline.


def test_renamed_agent_is_found_before_the_run(project, baseline):
    compared = baseline(a=1.0, b=1.0)
    outcome = project.run(*RUN, compared)
    assert outcome.ret == 4
    outcome.has(
        "nothing can be compared with ",
        "agent nop is not in the baseline; the baseline has agent oracle; --harbor-agent-name=oracle compares with it",
    )
    assert nothing_ran(project)
    outcome = project.run(*RUN, "--harbor-agent-name=oracle", compared)
    assert outcome.ret == 0
    outcome.has("verdict: pass")


def test_renamed_agent_with_workers(project, baseline):
    compared = baseline(a=1.0, b=1.0)
    outcome = project.run(*RUN, compared, "-n2", subprocess=True)
    assert outcome.ret == 4
    outcome.has("--harbor-agent-name=oracle compares with it")


def test_renamed_agent_under_a_baseline_of_the_ini_file(project, baseline):
    baseline(a=1.0, b=1.0)
    project.ini("harbor_baseline = baseline.json")
    outcome = project.run(*RUN)
    assert outcome.ret == 11
    outcome.has("verdict: not judged", "--harbor-agent-name=oracle compares with it")
    outcome.lacks("not compared")


def test_other_tasks_are_found_before_the_run(project, baseline):
    compared = baseline(a=1.0)
    project.rewards(b=1.0)
    outcome = project.run(*RUN, "--harbor-agent-name=oracle", "--harbor-task=b", compared)
    assert outcome.ret == 4
    outcome.has("none of the selected tasks is in it")


@pytest.mark.parametrize(
    "provider, reason",
    [
        ("docker", "it is of docker, and this run uses fake; see --harbor-environment"),
        ("", "it does not say on which provider it ran; save it again with --harbor-save-baseline"),
    ],
)
def test_another_provider_is_found_before_the_run(project, provider, reason):
    project.rewards(a=1.0)
    Baseline({("tb2/a", "nop"): Sample((1.0,), 1, provider=provider)}).write(project.path / "baseline.json")
    outcome = project.run(*RUN, "--harbor-baseline=baseline.json")
    assert outcome.ret == 4
    outcome.has(reason)


def test_changed_tasks_are_not_judged(project, baseline):
    compared = baseline(a=1.0)
    project.file("tb2/a/instruction.md", "Something else.\n")
    outcome = project.run(*RUN, "--harbor-agent-name=oracle", compared)
    assert outcome.ret == 11
    outcome.has("no task of this run can be compared with the baseline", "the task has changed")


def test_new_agent_is_not_judged_although_another_passes(project):
    project.rewards(a=1.0)
    project.run(*RUN, "--harbor-agent-name=one", "--harbor-save-baseline=baseline.json")
    project.file("agents.toml", '[[agents]]\nname = "one"\nagent = "nop"\n[[agents]]\nname = "nop"\nagent = "nop"\n')
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agents=agents.toml", "--harbor-baseline=baseline.json")
    assert outcome.ret == 11
    outcome.has("agent nop is not in the baseline; the baseline has agent one; --harbor-update-baseline adds it")


def test_empty_baseline_is_a_usage_error(project):
    project.rewards(a=1.0)
    project.file("baseline.json", '{"schema_version": 1, "tasks": {}}')
    outcome = project.run(*RUN, "--harbor-baseline=baseline.json")
    assert outcome.ret == 4
    outcome.has("has no results of any task; save it again with --harbor-save-baseline")


# Nothing ran.


@pytest.mark.parametrize("rule", ["--harbor-gate=each", "--harbor-gate=pass-rate=0", "--harbor-baseline=baseline.json"])
def test_run_without_tasks_is_no_pass(project, rule):
    Baseline({("tb2/a", "nop"): Sample((1.0,), 1)}).write(project.path / "baseline.json")
    project.file("test_unit.py", "def test_it(): pass")
    outcome = project.run("test_unit.py", rule)
    assert outcome.ret == 11
    outcome.has("verdict: not judged", "no trial ran", "1 passed")
    project.rewards(a=1.0)
    assert project.run("test_unit.py", *RUN, rule).ret == 11
    assert project.run("test_unit.py", *RUN, rule, "--harbor-inconclusive=pass").ret == 11
    assert project.run(*RUN, rule, "-k", "nosuch").ret == 5


@pytest.mark.parametrize("rule", ["harbor_gate = each", "addopts = --harbor-gate=each"])
def test_run_without_tasks_passes_if_only_an_ini_file_has_the_rule(project, rule):
    project.rewards(a=0.0)
    project.file("test_unit.py", "def test_it(): pass")
    project.ini(rule, "harbor_dataset = tb2", "harbor_agent = nop")
    outcome = project.run("test_unit.py")
    assert outcome.ret == 0
    outcome.lacks("verdict:")
    assert project.run("tb2").ret == 1


@pytest.mark.parametrize("how", ["--collect-only", "--setup-plan"])
def test_listing_has_no_verdict(project, how):
    project.rewards(a=0.0)
    outcome = project.run(*RUN, "--harbor-gate=each", how)
    assert outcome.ret == 0
    outcome.lacks("verdict:")


@pytest.mark.parametrize("rule", ["each", "pass-rate=0.1"])
def test_skipped_or_failing_environments_are_no_pass(project, rule):
    project.rewards(a=None, b=None)
    outcome = project.run(*RUN, f"--harbor-gate={rule}", "--harbor-max-infra-errors=100%")
    assert outcome.ret == 11
    outcome.has("no trial was graded")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=oracle", f"--harbor-gate={rule}")
    assert outcome.ret == 11
    outcome.has("no trial ran")


def test_excluded_trials_do_not_help(project):
    project.rewards(lost=None, wrong=0.0, **{f"t{number}": 1.0 for number in range(8)})
    outcome = project.run(*RUN, "--harbor-gate=pass-rate=0.85")
    assert outcome.ret == 11
    outcome.has(
        "excluded trials decide: had they failed, the run would have regressed (pass rate 80.0% (8 of 10), below the "
        "required 85.0%)"
    )
    assert project.run(*RUN, "--harbor-gate=pass-rate=0.85", "--harbor-max-infra-errors=1").ret == 0
    outcome = project.run(*RUN, "--harbor-gate=pass-rate=0.8")
    assert outcome.ret == 0
    outcome.has(
        "verdict: pass",
        "pass rate 88.9% (8 of 9), at least 80.0%",
        "excluded: 1 of 10 trials ended with an infrastructure error (tb2/lost)",
    )
    assert project.run(*RUN, "--harbor-gate=each", "--harbor-exclude-task=wrong").ret == 11


# Outputs that cannot be written.


@pytest.mark.parametrize("place", ["/proc/x", "file", "/dev/null"])
@pytest.mark.parametrize(
    "flag, options",
    [
        ("--harbor-save-baseline", ["--harbor-save-baseline={}/b.json"]),
        ("--harbor-update-baseline", ["--harbor-update-baseline", "--harbor-baseline={}/b.json"]),
        ("--harbor-html", ["--harbor-html={}/page.html"]),
        ("--harbor-results", ["--harbor-results={}/results"]),
        ("--harbor-cassettes", ["--harbor-proxy=auto", "--harbor-cassettes={}/cassettes"]),
    ],
)
def test_unwritable_output_is_found_before_the_run(project, place, flag, options):
    project.rewards(a=1.0)
    project.file("file", "")
    outcome = project.run(*RUN, *(option.format(place) for option in options))
    assert outcome.ret == 4
    outcome.has(f"{flag}: ", " cannot be ")
    outcome.shows_no_bug()
    assert nothing_ran(project)


@pytest.mark.parametrize("flag", ["--harbor-save-baseline", "--harbor-html"])
def test_output_into_a_device(project, flag):
    project.rewards(a=1.0)
    outcome = project.run(*RUN, f"{flag}=/dev/null")
    assert outcome.ret == 4
    outcome.has(f"{flag}: /dev/null ", "is not a regular file")


def test_output_directory_as_a_file(project):
    project.rewards(a=1.0)
    outcome = project.run(*RUN, "--harbor-save-baseline=tb2")
    assert outcome.ret == 4
    outcome.has("--harbor-save-baseline: ", "directory")


@pytest.mark.parametrize("what", ["html=late/page.html", "save-baseline=late/b.json"])
@pytest.mark.parametrize("gate", [(), ("--harbor-gate=each",)])
def test_output_that_cannot_be_written_after_all(project, what, gate):
    project.rewards(a=1.0)
    project.file("test_unit.py", "from pathlib import Path\ndef test_it(): Path('late').touch()")
    outcome = project.run("test_unit.py", "tb2", *RUN, f"--harbor-{what}", *gate)
    assert outcome.ret == 1
    outcome.has("late")


def test_refused_baseline_is_not_a_success(project, baseline):
    good = {f"t{number}": 1.0 for number in range(12)}
    compared = baseline(**good)
    project.rewards(lost=None)
    project.file("rewards.json", json.dumps({**good, "lost": None}))
    run = (*RUN, "--harbor-agent-name=oracle", compared, "--harbor-save-baseline=new.json")
    outcome = project.run(*run)
    assert outcome.ret == 0
    outcome.has("verdict: pass", "baseline of 12 tasks saved to ", "tb2/lost with oracle: 1 of 1 trial missing, infra")
    outcome = project.run(*run, "--harbor-baseline=new.json", "--harbor-max-infra-errors=0")
    assert outcome.ret == 11
    outcome.has("new.json was not written: 1 of 13 trials ended with an infrastructure error, more than the limit of 0")
    outcome.has("add --harbor-force-baseline")


def test_update_leaves_incomplete_tasks_as_they_were(project, baseline):
    good = {f"t{number}": 1.0 for number in range(12)}
    compared = baseline(**good, lost=1.0)
    project.file("rewards.json", json.dumps({**good, "t0": 0.0, "lost": None}))
    outcome = project.run(*RUN, "--harbor-agent-name=oracle", compared, "--harbor-update-baseline")
    assert outcome.ret == 0
    outcome.has("baseline of 13 tasks saved to ", "tb2/lost with oracle: 1 of 1 trial missing", ": left as it was")
    samples = Baseline.read(project.path / "baseline.json").samples
    assert (samples["tb2/t0", "oracle"].rewards, samples["tb2/lost", "oracle"].rewards) == ((0.0,), (1.0,))


def test_stopped_run_makes_no_baseline(project):
    project.rewards(a=0.0, b=1.0)
    outcome = project.run(*RUN, "-x", "--harbor-save-baseline=new.json")
    assert outcome.ret == 1
    outcome.has("new.json was not written: the run was stopped: stopping after 1 failures; run again")
    assert not (project.path / "new.json").exists()


# Tasks with an xfail mark.

MARKS = """
import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("known"):
            item.add_marker(pytest.mark.xfail(reason="known", {arguments}))
"""
SCORED = pytest.mark.parametrize("gate", [(), ("--harbor-gate=pass-rate=0",), ("--harbor-record-only",)])


@pytest.fixture
def marked(project):
    """Write tasks, those with names that begin with `known` marked."""

    def marked(arguments: str = "", **rewards) -> None:
        project.rewards(**rewards)
        project.file("tb2/conftest.py", MARKS.format(arguments=arguments))

    return marked


@SCORED
def test_xfail_is_decided_by_the_reward(project, marked, gate):
    marked(known_bad=0.0, known_good=1.0, other=1.0)
    outcome = project.run(*RUN, *gate, "-rxX")
    assert outcome.ret == 0
    assert outcome.counts == {"xfailed": 1, "xpassed": 1, "scored" if gate else "passed": 1}
    outcome.has(
        "XFAIL tb2/known_bad/task.toml::known_bad - known", "XPASS tb2/known_good/task.toml::known_good - known"
    )
    assert {result["task"]: result["xfail"] for result in project.results()} == {
        "tb2/known_bad": True,
        "tb2/known_good": True,
        "tb2/other": False,
    }
    assert {result["task"]: result["outcome"] for result in project.results()} == {
        "tb2/known_bad": "failed",
        "tb2/known_good": "passed",
        "tb2/other": "passed",
    }


@SCORED
def test_strict_xfail_fails_if_the_task_passes(project, marked, gate):
    marked("strict=True", known_bad=0.0, known_good=1.0)
    outcome = project.run(*RUN, *gate)
    assert outcome.ret == 1
    assert outcome.counts == {"xfailed": 1, "failed": 1}
    outcome.has("[XPASS(strict)] known")


@SCORED
def test_strict_xfail_from_the_ini_file(project, marked, gate):
    marked(known_bad=0.0)
    project.ini("xfail_strict = true")
    outcome = project.run(*RUN, *gate)
    assert (outcome.ret, outcome.counts) == (11 if "gate" in str(gate) else 0, {"xfailed": 1})


@SCORED
def test_runxfail_ignores_the_marks(project, marked, gate):
    marked("strict=True", known_bad=0.0, known_good=1.0)
    outcome = project.run(*RUN, *gate, "--runxfail")
    assert outcome.ret == (0 if gate else 1)
    assert "xfailed" not in outcome.counts


@SCORED
def test_xfail_that_expects_something_else(project, marked, gate):
    marked("raises=ZeroDivisionError", known_bad=0.0)
    outcome = project.run(*RUN, *gate)
    assert outcome.ret == 1
    assert outcome.counts == {"failed": 1}


def test_xfail_without_a_run_is_a_skip(project, marked):
    marked("run=False", known_bad=0.0, other=1.0)
    outcome = project.run(*RUN, "--harbor-gate=each")
    assert outcome.ret == 0
    assert outcome.counts == {"xfailed": 1, "scored": 1}
    reason = next(result["reason"] for result in project.results() if result["outcome"] == "skipped")
    assert reason == "[NOTRUN] known"


def test_broken_environment_under_xfail_is_still_an_error_of_the_trial(project, marked):
    marked(known_lost=None)
    outcome = project.run(*RUN)
    assert outcome.counts == {"xfailed": 1}
    assert [result["outcome"] for result in project.results()] == ["error"]


@pytest.mark.parametrize("rule", ["each", "pass-rate=1"])
def test_expected_failures_do_not_break_a_rule(project, marked, rule):
    marked(known_bad=0.0, a=1.0)
    outcome = project.run(*RUN, f"--harbor-gate={rule}", "-v")
    assert outcome.ret == 0
    outcome.has("expected failures (1):", "1 of 1 failed, as an xfail mark expects")
    project.file("rewards.json", json.dumps({"known_bad": 0.0, "a": 0.0}))
    assert project.run(*RUN, f"--harbor-gate={rule}").ret == 1


def test_comparison_counts_rewards_whatever_the_marks(project, marked):
    marked(known_a=1.0, b=1.0)
    options = (*RUN, "--harbor-attempts=5")
    assert project.run(*options, "--harbor-save-baseline=baseline.json").ret == 0
    project.file("rewards.json", json.dumps({"known_a": 0.0, "b": 1.0}))
    outcome = project.run(*options, "--harbor-baseline=baseline.json")
    assert outcome.ret == 1
    outcome.has("nop: 1 task got worse, more than chance explains (p = 0.0044): tb2/known_a")


# What a user sees.


def test_failures_of_scored_trials_are_shown_with_their_logs(project, baseline):
    compared = baseline(worse=1.0, same=0.0)
    project.file("rewards.json", json.dumps({"worse": 0.0, "same": 0.0}))
    options = (*RUN, "--harbor-agent-name=oracle", compared)
    outcome = project.run(*options)
    assert outcome.ret == 10
    outcome.has("FAILURES OF SCORED TRIALS", "tb2/worse [verify] ", "Logs: ", "1 other trial did not pass; use -v")
    outcome.lacks("tb2/same [verify]")
    project.run(*options, "-v").has("tb2/worse [verify] ", "tb2/same [verify] ")
    project.run(*options, "--tb=no").lacks("FAILURES OF SCORED TRIALS")
    outcome = project.run(*options, "-n2", subprocess=True)
    outcome.has("FAILURES OF SCORED TRIALS", "tb2/worse [verify] ")
    project.file("rewards.json", json.dumps({"worse": 1.0, "same": 0.0}))
    outcome = project.run(*options)
    assert outcome.ret == 0
    outcome.has("1 trial did not pass; use -v to show why")


def test_record_only_shows_no_failed_trial_as_passed(project):
    project.rewards(a=0.0, b=1.0)
    outcome = project.run(*RUN, "--harbor-record-only")
    assert outcome.ret == 0
    assert outcome.counts == {"scored": 2}
    outcome.has("2 trials: 1 passed, 1 failed")
    outcome.lacks("FAILURES OF SCORED TRIALS")


def test_exit_status_is_explained(project, baseline):
    compared = baseline(a=1.0, b=1.0)
    project.file("rewards.json", json.dumps({"a": 0.0, "b": 0.0}))
    options = (*RUN, "--harbor-agent-name=oracle", compared)
    outcome = project.run(*options)
    assert outcome.ret == 10
    outcome.has(
        "exit status 10: inconclusive; --harbor-inconclusive=pass would make it 0",
        "oracle: mean reward change -1.000 over 2 tasks (1.000 -> 0.000), not statistically significant (p = 0.28); "
        "about 12 attempts per task in this run would settle it",
        "lower than the baseline (2):",
    )
    outcome.lacks("regressions", "95% interval")
    # It is the last line before pytest's own.
    assert re.search(r"^page: .*\nexit status 10: .*\n=+ ", outcome.out, re.MULTILINE)
    accepted = project.run(*options, "--harbor-inconclusive=pass")
    assert accepted.ret == 0
    accepted.has("exit status 0, although inconclusive: --harbor-inconclusive=pass accepts it")
    project.file("test_unit.py", "def test_it(): assert False")
    outcome = project.run("test_unit.py", "tb2", *options)
    assert outcome.ret == 1
    outcome.has("exit status 1: 1 failure that the verdict is not about")
    outcome = project.run(*RUN, "--harbor-gate=each")
    assert outcome.ret == 1
    outcome.has("exit status 1: regressed")


def test_about_as_many_attempts_as_suggested_settle_it(project, baseline):
    project.rewards(a=1.0, b=1.0)
    options = (*RUN, "--harbor-attempts=3")
    assert project.run(*options, "--harbor-save-baseline=baseline.json").ret == 0
    project.file("rewards.json", json.dumps({"a": 0.0, "b": 0.0}))
    outcome = project.run(*options, "--harbor-baseline=baseline.json")
    assert outcome.ret == 1
    outcome.has(
        "nop: mean reward change -1.000 over 2 tasks (1.000 -> 0.000), statistically significant", "regressions (2):"
    )


# What rules about groups and time need.


def test_baseline_has_category_difficulty_and_the_seconds_of_the_agent(project):
    project.rewards(a=1.0, b=1.0)
    project.file("tb2/a/task.toml", '[metadata]\ncategory = "games"\ndifficulty = "Hard"\n')
    outcome = project.run(*RUN, "--harbor-save-baseline=baseline.json")
    assert outcome.ret == 0
    assert [(line["category"], line["difficulty"]) for line in project.results()] == [("games", "Hard"), ("", "")]
    samples = Baseline.read(project.path / "baseline.json").samples
    assert (samples["tb2/a", "nop"].category, samples["tb2/a", "nop"].difficulty) == ("games", "Hard")
    for line in project.results():
        assert samples[line["task"], "nop"].agent_seconds == pytest.approx(line["phases"]["agent"], rel=1e-3)


def test_baseline_of_an_agent_that_earned_nothing(project):
    project.rewards(a=0.0, b=0.0)
    project.run(*RUN, "--harbor-save-baseline=new.json").has(
        "baseline of 2 tasks saved",
        "WARNING: no trial of agent nop has a reward above 0, so no gate can find that it got worse; check that",
    )
    project.file("rewards.json", json.dumps({"a": 0.0, "b": 0.1}))
    project.run(*RUN, "--harbor-save-baseline=new.json").lacks("WARNING: no trial")
