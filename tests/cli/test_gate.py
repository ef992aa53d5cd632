"""`pytest-harbor gate`: finished runs are judged, and nothing is run."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_harbor.cli import main
from pytest_harbor.gate import Baseline, baseline_of
from pytest_harbor.results import Run, RunRecord
from pytest_harbor.trial import TrialResult, Usage

TASKS = [f"tb2/{n:02}" for n in range(12)]


def results(rewards: dict[str, list[float | None]], run: str = "r") -> list[TrialResult]:
    return [
        TrialResult(
            run=run,
            task=task,
            dataset="tb2",
            task_path="",
            agent="bot",
            attempt=attempt,
            outcome="error" if reward is None else "passed" if reward >= 1 else "failed",
            reward=reward,
            provider="docker",
            task_digest="d",
            phases={"agent": 2.0},
            node_id=f"{task}[{attempt}]",
        )
        for task, each in rewards.items()
        for attempt, reward in enumerate(each, 1)
    ]


GOOD = {task: [1.0] * 5 for task in TASKS}
BAD = {task: [0.0] * 5 if task in TASKS[:6] else [1.0] * 5 for task in TASKS}


@pytest.fixture
def write(tmp_path):
    def write(name: str, trials: list[TrialResult], *, shard: str = "") -> str:
        run = Run(tmp_path / "harbor-results", name)
        run.directory.mkdir(parents=True)
        for trial in trials:
            run.append(trial)
        RunRecord(name, tuple(TASKS), tuple({trial.task for trial in trials}), (), shard).write(run.directory)
        return str(run.directory)

    return write


@pytest.fixture
def baseline(tmp_path) -> str:
    file = tmp_path / "baseline.json"
    baseline_of(results(GOOD)).write(file)
    return str(file)


@pytest.fixture
def gate(capsys):
    def gate(*words: str) -> tuple[int, str, str]:
        try:
            status = main(["gate", *words])
        except SystemExit as error:
            status = int(error.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return gate


def test_equal_run_passes(gate, write, baseline):
    status, out, err = gate(write("new", results(GOOD)), "--baseline", baseline)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "verdict: pass (rule drop=0.05,alpha=0.05)",
        "  bot: mean reward change +0.000 over 12 tasks (1.000 -> 1.000), p = 1; no drop of 0.05 or more",
        "60 trials in 1 run: 60 passed, 0 failed, 0 unverified, 0 errors",
        "mean reward 1.000, pass rate 100.0% (60 of 60 passed)",
        "bot: pass@1 100.0%, pass@5 100.0%, pass^5 100.0%; mean reward 1.000 over 12 tasks",
    ]


def test_worse_run_has_regressed(gate, write, baseline):
    status, out, _ = gate(write("new", results(BAD)), "--baseline", baseline)
    assert status == 1
    assert out.startswith("verdict: regressed")
    assert "  tb2/00  bot  1.00 -> 0.00  passed 5 of 5, now 0 of 5; more than chance explains\n" in out


def test_usage_of_all_runs_and_its_change(gate, write, tmp_path):
    before, after = results(GOOD), results(GOOD)
    for trial in before:
        trial.usage = Usage(requests=2, input_tokens=1_000, cost=0.02)
    for trial in after:
        trial.usage = Usage(requests=3, input_tokens=1_100, cost=0.01)
    saved = str(tmp_path / "saved.json")
    assert gate(write("before", before), "--save-baseline", saved)[0] == 0
    shards = [write(f"s{n}", after[n::2], shard=f"{n + 1}/2") for n in range(2)]
    status, out, _ = gate(*shards, "--baseline", saved)
    assert status == 0
    assert out.splitlines()[2] == (
        "  bot: mean cost $0.010 per trial, -50% vs. the baseline; mean tokens 1.1k per trial, +10% vs. the baseline"
    )
    expected = "models: 180 calls, 66.0k input tokens (0 cached), 0 output tokens (0 reasoning), cost $0.60"
    assert expected in out.splitlines()


def test_same_run_under_other_rules(gate, write, baseline):
    run = write("new", results({**GOOD, TASKS[0]: [1, 1, 1, 1, 0]}))
    assert gate(run, "--baseline", baseline)[0] == 0
    assert gate(run, "--baseline", baseline, "--gate", "each")[0] == 1
    assert gate(run, "--baseline", baseline, "--gate", "drop=0.001")[0] == 10
    assert gate(run, "--baseline", baseline, "--gate", "drop=0.001", "--inconclusive", "pass")[0] == 0
    assert gate(run, "--gate", "pass-rate=0.9")[0] == 0
    assert gate(run, "--gate", "pass-rate=0.999")[0] == 1


def test_shards_get_the_verdict_of_one_run(gate, write, baseline):
    trials = results(BAD)
    whole = gate(write("whole", trials), "--baseline", baseline)
    shards = [
        write(f"s{n}", [trial for trial in trials if int(trial.task[-2:]) % 3 == n], shard=f"{n + 1}/3")
        for n in range(3)
    ]
    random.Random(1).shuffle(shards)
    merged = gate(*shards, "--baseline", baseline)
    assert merged[0] == whole[0] == 1
    assert merged[1].replace("3 runs", "1 run") == whole[1]


def test_excluded_trials_do_not_decide(gate, write):
    run = write("new", results({**GOOD, TASKS[0]: [None] * 5}))
    status, out, _ = gate(run, "--gate", "each")
    assert status == 11
    assert "excluded trials decide: had they failed, the run would have regressed" in out
    assert gate(run, "--gate", "each", "--max-infra-errors=10%")[0] == 0


def test_confirmations_enter_no_rate(gate, write, baseline):
    trials = results({**GOOD, TASKS[0]: [0.0, 1.0, 1.0, 1.0, 1.0]})
    failed = next(trial for trial in trials if not trial.reward)
    confirmed = [replace(failed, confirmation=number) for number in (1, 2)]
    _, out, _ = gate(write("new", [*trials, *confirmed]), "--baseline", baseline)
    expected = [
        "60 trials in 1 run: 59 passed, 1 failed, 0 unverified, 0 errors (2 confirmations not included)",
        "mean reward 0.983, pass rate 98.3% (59 of 60 passed)",
    ]
    assert [line for line in out.splitlines() if line.startswith(("60 trials", "mean reward"))] == expected


def test_run_that_spent_its_budget_is_not_judged(gate, write, baseline, tmp_path):
    spent = "--harbor-session-budget of $5.00 is spent ($5.1 used by this run)"
    trials = results(GOOD)
    cut = [replace(trial, outcome="skipped", reward=None, reason=spent) for trial in trials[30:]]
    first = write("first", [*trials[:30], *cut])
    status, out, _ = gate(first, "--gate", "pass-rate=0.5")
    assert status == 11
    assert f"  a run was stopped: {spent}\n" in out
    assert "pass rate 100.0% (30 of 30 passed, 30 not run)" in out
    status, _, err = gate(first, "--save-baseline", str(tmp_path / "saved.json"))
    assert status == 1
    assert "saved.json was not written: a run was stopped: " in err
    # A trial that the budget cut off in one run, or kept from running, may run in another.
    cut_off = replace(trials[29], outcome="failed", reward=0.0, budget=spent)
    first = write("cut", [*trials[:29], cut_off, *cut])
    assert gate(first, write("second", trials[29:]), "--gate", "pass-rate=1.0")[0] == 0


def test_runs_with_a_missing_shard_are_not_judged(gate, write, baseline):
    run = write("s1", results({task: GOOD[task] for task in TASKS[:6]}), shard="1/2")
    status, out, _ = gate(run, "--baseline", baseline)
    assert status == 11
    assert (
        "  6 of 12 tasks have no result: tb2/06, tb2/07, tb2/08, tb2/09, tb2/10 and 1 more; no run of shard 2/2" in out
    )
    assert gate(run, "--baseline", baseline, "--inconclusive=pass")[0] == 11


def test_overlapping_runs_are_an_error(gate, write, baseline):
    runs = [write(name, results(GOOD, name)) for name in "ab"]
    status, out, err = gate(*runs, "--baseline", baseline)
    assert (status, out) == (2, "")
    assert "overlap: both have tb2/00 with bot, attempt 1" in err
    assert "or --pool to add up the attempts of both" in err


def test_pooled_runs_are_judged_as_one(gate, write, baseline):
    runs = [write(name, results(each, name)) for name, each in {"a": GOOD, "b": BAD}.items()]
    status, out, err = gate(*runs, "--baseline", baseline, "--pool")
    assert (status, err) == (1, "")
    assert "mean reward change -0.250 over 12 tasks" in out
    assert "120 trials in 2 runs: 90 passed" in out
    assert "  tb2/00  bot  1.00 -> 0.50  passed 5 of 5, now 5 of 10" in out


def test_runs_are_added_to_a_baseline(gate, write, tmp_path):
    file = tmp_path / "baseline.json"
    runs = [write(name, results(each, name)) for name, each in {"a": GOOD, "b": BAD, "c": GOOD}.items()]
    assert gate(runs[0], "--add-to-baseline", str(file))[0] == 0
    status, out, err = gate(*runs, "--add-to-baseline", str(file))
    assert (status, err) == (0, "")
    assert out.splitlines()[-3:] == [
        f"baseline of 12 tasks saved to {file}",
        f"added to {file}: 120 attempts; it has 15 per task",
        "already in it, and not added again: 1 run (a)",
    ]
    sample = Baseline.read(file).samples["tb2/00", "bot"]
    assert [(run.id, run.attempts, run.passed) for run in sample.runs] == [("a", 5, 5), ("b", 5, 0), ("c", 5, 5)]
    before = file.read_bytes()
    status, out, _ = gate(*runs, "--add-to-baseline", str(file))
    assert (status, file.read_bytes()) == (0, before)
    assert "added to " in out
    assert "not added again: 3 runs (a, b, c)" in out


def test_runs_that_do_not_belong_to_a_baseline(gate, write, tmp_path):
    file = tmp_path / "baseline.json"
    assert gate(write("a", results(GOOD, "a")), "--add-to-baseline", str(file))[0] == 0
    before, trials = file.read_bytes(), results(GOOD, "b")
    for trial in trials:
        trial.provider = "namespace"
    status, _, err = gate(write("b", trials), "--add-to-baseline", str(file))
    assert (status, file.read_bytes()) == (1, before)
    assert "was not written: its provider is docker, and that of the run is namespace (tb2/00 with bot, " in err
    assert "add runs of the same, or start over with --save-baseline" in err
    file.write_text("<<<<<<< ours")
    status, _, err = gate(write("c", results(GOOD, "c")), "--add-to-baseline", str(file))
    assert status == 2
    assert "--add-to-baseline: " in err
    assert "merge conflicts" in err


def test_corrupt_line_costs_one_trial_and_is_reported(gate, write, baseline):
    run = write("new", results(GOOD))
    file = Path(run) / "results.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0][:50], *lines[1:]]) + "\n")
    status, out, _ = gate(run, "--baseline", baseline)
    assert status == 0
    assert f"not read: {file}, line 1: " in out
    assert "59 trials in 1 run" in out


def test_too_many_corrupt_lines_are_not_judged(gate, write, baseline):
    run = write("new", results(GOOD))
    file = Path(run) / "results.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join("{" if n % 5 == 0 else line for n, line in enumerate(lines)) + "\n")
    status, out, _ = gate(run, "--baseline", baseline)
    assert status == 11
    assert "12 of 60 results cannot be read, more than the limit of 10%" in out
    assert gate(run, "--baseline", baseline, "--max-infra-errors=12")[0] == 0


def test_infrastructure_errors_are_limited(gate, write, baseline):
    run = write("new", results({**GOOD, TASKS[0]: [None] * 5, TASKS[1]: [None] * 5}))
    assert gate(run, "--baseline", baseline)[0] == 11
    assert gate(run, "--baseline", baseline, "--max-infra-errors=50%")[0] == 0
    assert gate(run, "--baseline", baseline, "--max-infra-errors=9")[0] == 11
    assert gate(run, "--baseline", baseline, "--max-infra-errors=10")[0] == 0


def test_shards_are_merged_into_a_baseline(gate, write, tmp_path):
    trials = results(BAD)
    shards = [write(f"s{n}", [t for t in trials if int(t.task[-2:]) % 2 == n], shard=f"{n + 1}/2") for n in (0, 1)]
    file = tmp_path / "new" / "baseline.json"
    status, out, err = gate(*shards, "--save-baseline", str(file))
    assert (status, err) == (0, "")
    assert f"baseline of 12 tasks saved to {file}" in out
    assert "verdict" not in out
    assert Baseline.read(file).samples == baseline_of(trials).samples


def test_judge_and_save_at_once(gate, write, baseline, tmp_path):
    status, out, _ = gate(
        write("new", results(BAD)), "--baseline", baseline, "--save-baseline", str(tmp_path / "next.json")
    )
    assert status == 1
    assert out.startswith("verdict: regressed")
    assert (tmp_path / "next.json").exists()


def test_incomplete_task_is_omitted_from_a_baseline(gate, write, tmp_path):
    file = tmp_path / "baseline.json"
    status, out, err = gate(
        write("new", results({**GOOD, TASKS[0]: [1.0, None, 1.0, 1.0, 1.0]})), "--save-baseline", str(file)
    )
    assert (status, err) == (0, "")
    assert out.splitlines()[-3:] == [
        f"baseline of 11 tasks saved to {file}",
        "not saved, because trials are missing (1 task); run them again to complete the baseline:",
        "  tb2/00 with bot: 1 of 5 trials missing, infrastructure error: omitted",
    ]
    assert len(Baseline.read(file).samples) == 11


@pytest.mark.parametrize("problem", ["errors", "gaps", "corrupt"])
def test_baseline_with_many_errors_or_gaps_needs_force(gate, write, tmp_path, problem):
    errors = {**GOOD, **dict.fromkeys(TASKS[:2], [None] * 5)}
    trials = {"errors": errors, "gaps": {task: GOOD[task] for task in TASKS[1:]}, "corrupt": GOOD}[problem]
    run, file = write("new", results(trials)), tmp_path / "baseline.json"
    if problem == "corrupt":
        lines = (Path(run) / "results.jsonl").read_text().splitlines()
        (Path(run) / "results.jsonl").write_text("\n".join("{" if n % 5 == 0 else line for n, line in enumerate(lines)))
    status, _, err = gate(run, "--save-baseline", str(file))
    assert status == 1
    assert f"{file} was not written: " in err
    assert {"errors": "10 of 60 trials ended", "gaps": "tb2/00", "corrupt": "12 of 60 results cannot be"}[
        problem
    ] in err
    assert not file.exists()
    assert gate(run, "--save-baseline", str(file), "--force-baseline")[0] == 0
    assert file.exists()


def test_baseline_without_trials_and_unwritable_baseline(gate, write, tmp_path):
    status, _, err = gate(write("none", []), "--save-baseline", str(tmp_path / "b.json"), "--force-baseline")
    assert status == 1
    assert "no trial ran" in err
    (tmp_path / "file").write_text("")
    status, _, err = gate(write("new", results(GOOD)), "--save-baseline", str(tmp_path / "file" / "b.json"))
    assert status == 1
    assert "was not written: " in err


def test_no_trials_are_not_judged(gate, write, baseline):
    status, out, _ = gate(write("none", []), "--baseline", baseline, "--gate=each")
    assert status == 11
    assert "no trial ran" in out


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give --baseline=FILE to compare with, --gate=RULE, --save-baseline=FILE or --add-to-baseline=FILE"),
        (["--save-baseline=b.json", "--add-to-baseline=b.json"], "not allowed with argument"),
        (
            ["--baseline", "absent.json"],
            "absent.json does not exist; create it with --harbor-save-baseline=absent.json",
        ),
        (["--gate", "drop=0.1"], "compares with a baseline, and there is none; add --baseline=FILE (--save-baseline="),
        (["--gate=each", "--github-comment", "/proc/x/c.md"], "--github-comment: /proc/x/c.md cannot be written: "),
        (["--gate", "drop=2"], "'drop=2' is not valid; use drop=SHARE"),
        (["--gate=each", "--max-infra-errors", "many"], "'many' is not valid; use a number of trials such as 3"),
        (["--gate=each", "--inconclusive", "maybe"], "invalid choice: 'maybe'"),
    ],
)
def test_usage_errors(gate, write, words, message):
    status, out, err = gate(write("new", results(GOOD)), *words)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_path_that_is_not_a_run(gate, write, baseline, tmp_path):
    status, _, err = gate(str(tmp_path / "absent"), "--baseline", baseline)
    assert status == 2
    assert "absent is not a run: it has no results.jsonl" in err
    write("one", [])
    status, _, err = gate(str(tmp_path / "harbor-results"), "--baseline", baseline)
    assert status == 2
    assert "it contains 1 run; give " in err


def test_moved_run(gate, write, baseline, tmp_path):
    run = write("new", results(BAD))
    shutil.move(run, tmp_path / "artifact")
    assert gate(str(tmp_path / "artifact"), "--baseline", baseline)[0] == 1


def test_verbose_shows_every_task(gate, write, baseline):
    run = write("new", results({**GOOD, TASKS[0]: [1, 1, 1, 1, 0]}))
    assert "use -v to list them" in gate(run, "--baseline", baseline)[1]
    assert "tb2/00  bot  1.00 -> 0.80" in gate(run, "--baseline", baseline, "-v")[1]


def test_hostile_results_cannot_control_the_terminal(gate, write, baseline):
    trials = results({**GOOD, "tb2/\x1b[2J\nverdict: pass": [0.0]})
    _, out, _ = gate(write("new", trials), "--baseline", baseline, "--gate=each")
    assert "\x1b" not in out
    assert sum(line.startswith("verdict: ") for line in out.splitlines()) == 1


def test_github_reports_of_merged_runs(gate, write, baseline, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    run, comment = write("new", results(BAD)), tmp_path / "comment.md"
    status, out, _ = gate(run, "--baseline", baseline, "--github-comment", str(comment))
    assert status == 1
    assert "\n::error title=regressions%3A tb2/00::1.00 -> 0.00, passed 5 of 5" in out
    assert "**Verdict: regressed**" in (tmp_path / "summary.md").read_text()
    assert comment.read_text().startswith("<!-- pytest-harbor -->\n## pytest-harbor\n**Verdict: regressed**")


def test_comment_outside_github_actions(gate, write, baseline, tmp_path):
    comment = tmp_path / "comment.md"
    _, out, _ = gate(write("new", results(BAD)), "--baseline", baseline, "--github-comment", str(comment))
    assert "::error" not in out
    assert "Verdict: regressed" in comment.read_text()


def test_names_are_not_workflow_commands(gate, write, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run = write("new", results({"::set-output name=x::y/##[error]z": [0.0], **GOOD}))
    _, out, _ = gate(run, "--gate=each")
    commands = [line for line in out.splitlines() if line.lstrip().startswith("::") or "##[" in line]
    assert len(commands) == 1
    assert commands[0].startswith("::error title=failed%3A %3A%3Aset-output name=x%3A%3Ay/")


# JUnit XML.


def test_junit_has_the_verdict(gate, write, baseline, tmp_path):
    file = tmp_path / "new" / "junit.xml"

    def verdict(run: str, *options: str):
        gate(run, "--baseline", baseline, "--junitxml", str(file), *options)
        (suite,) = ElementTree.parse(file).getroot()
        (case,) = suite
        assert (case.get("classname"), case.get("name")) == ("harbor.gate", "verdict")
        counts = [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")]
        return counts, next(iter(case), None)

    assert verdict(write("same", results(GOOD))) == ([1, 0, 0, 0], None)
    counts, failure = verdict(write("worse", results(BAD)))
    assert (counts, failure.tag) == ([1, 1, 0, 0], "failure")
    assert failure.get("message").startswith("regressed: bot: mean reward change -0.500 over 12 tasks")
    assert "tb2/00  bot  1.00 -> 0.00  passed 5 of 5, now 0 of 5; more than chance explains" in failure.text
    shard = write("s1", results({task: GOOD[task] for task in TASKS[:6]}), shard="1/2")
    counts, error = verdict(shard)
    assert (counts, error.tag) == ([1, 0, 1, 0], "error")
    assert verdict(shard, "--inconclusive=pass")[0] == [1, 0, 1, 0], "it covers what was judged only"


def test_junit_replaces_the_target_of_a_link(gate, write, baseline, tmp_path):
    (tmp_path / "link.xml").symlink_to("junit.xml")
    gate(write("new", results(GOOD)), "--baseline", baseline, "--junitxml", str(tmp_path / "link.xml"))
    assert (tmp_path / "link.xml").is_symlink()
    assert "harbor.gate" in (tmp_path / "junit.xml").read_text()


def test_junit_of_hostile_names_is_valid_xml(gate, write, tmp_path):
    file = tmp_path / "junit.xml"
    run = write("new", results({"tb2/\x00\x1b[1m<&>\"'\ud800\uffff": [0.0], **GOOD}))
    assert gate(run, "--gate=each", "--junitxml", str(file))[0] == 1
    assert ElementTree.parse(file).getroot().get("name") == "pytest-harbor gate"


@pytest.mark.parametrize(
    "words, problem",
    [
        (
            ["--save-baseline", "saved.json", "--inconclusive=pass"],
            "--inconclusive is for a verdict; add --baseline=FILE",
        ),
        (["--gate=each", "--min-coverage=0.5"], "--min-coverage is about the tasks of a baseline; add --baseline=FILE"),
        (["--gate=each", "--force-baseline"], "--force-baseline is for saving a baseline; add --save-baseline=FILE"),
    ],
)
def test_option_without_effect(gate, write, words, problem):
    status, _, err = gate(write("new", results(GOOD)), *words)
    assert status == 2
    assert problem in err


def test_junit_needs_a_verdict_and_a_place(gate, write, baseline, tmp_path):
    run = write("new", results(GOOD))
    status, _, err = gate(run, "--save-baseline", str(tmp_path / "saved.json"), "--junitxml", str(tmp_path / "x.xml"))
    assert status == 2
    assert "--junitxml is for a verdict; add --baseline=FILE to compare with, or --gate=RULE" in err
    status, _, err = gate(run, "--baseline", baseline, "--junitxml", str(tmp_path))
    assert status == 2
    assert f"--junitxml: {tmp_path} cannot be written: it is a directory" in err


# Limits on cost and time, and groups.


def test_cost_and_time_are_limited(gate, write, tmp_path):
    before, after = results(GOOD), results(GOOD)
    for trial in before:
        trial.usage = Usage(requests=2, input_tokens=1_000, cost=0.02)
    for trial in after:
        trial.usage = Usage(requests=2, input_tokens=1_000, cost=0.03)
        trial.phases = {"build": 100.0, "agent": 2.2}
    saved = str(tmp_path / "saved.json")
    assert gate(write("before", before), "--save-baseline", saved)[0] == 0
    run = write("after", after)
    status, out, _ = gate(run, "--baseline", saved, "--gate=cost=+20%,tokens=+25%,seconds=+50%")
    assert status == 1
    assert out.splitlines()[:6] == [
        "verdict: regressed (rule drop=0.05,alpha=0.05,cost=+20%,tokens=+25%,seconds=+50%)",
        "  bot: cost +50% per trial over 12 tasks, allowed +20%: regressed",
        "  bot: mean reward change +0.000 over 12 tasks (1.000 -> 1.000), p = 1; no drop of 0.05 or more",
        "  bot: tokens +0% per trial over 12 tasks, allowed +25%: pass",
        "  bot: seconds +10% per trial over 12 tasks, allowed +50%: pass",
        "  bot: mean cost $0.030 per trial, +50% vs. the baseline; mean tokens 1.0k per trial, same as the baseline",
    ]
    assert gate(run, "--baseline", saved, "--gate=cost=+60%")[0] == 0


def test_cost_alone_blames_no_task(gate, write, tmp_path, monkeypatch):
    before, after = results(GOOD), results({**GOOD, TASKS[0]: [1.0, 1.0, 1.0, 1.0, 0.0]})
    for trials, cost in ((before, 0.02), (after, 0.03)):
        for trial in trials:
            trial.usage = Usage(requests=2, input_tokens=1_000, cost=cost)
    saved = str(tmp_path / "saved.json")
    assert gate(write("before", before), "--save-baseline", saved)[0] == 0
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    status, out, _ = gate(write("after", after), "--baseline", saved, "--gate=cost=+20%")
    assert status == 1
    assert "lower than the baseline 1, flaky 1; use -v to list them\n" in out
    assert "regressions" not in out
    assert "::error" not in out


@pytest.fixture
def grouped(write, tmp_path, monkeypatch):
    """A baseline and a run of tasks in two categories, one of which has failed once; and a rule for each of them."""
    monkeypatch.chdir(tmp_path)
    trials = results({**GOOD, TASKS[0]: [1.0, 1.0, 1.0, 1.0, 0.0]})
    for trial in trials:
        trial.category = "games" if trial.task == TASKS[0] else "security"
    baseline_of(results(GOOD)).write(tmp_path / "b.json")
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.pytest-harbor.gate.groups]]\ncategory = "games"\nrule = "each"\n'
        '[[tool.pytest-harbor.gate.groups]]\nname = "rest"\ncategory = "security"\nrule = "each"\n'
    )
    return write("new", trials), "--baseline=b.json"


def test_rules_of_groups(gate, grouped):
    assert gate(*grouped, "--gate=drop=0.05")[0] == 0
    status, out, _ = gate(*grouped, "--gate=category:security: each; task:*/00: pass-rate=0.5")
    assert status == 0
    assert "  category:security (each): pass; all 55 graded trials passed\n" in out
    assert "  task:*/00 (pass-rate=0.5): pass; pass rate 80.0% (4 of 5), at least 50.0%\n" in out


def test_rules_of_the_configuration_file_here(gate, grouped, tmp_path):
    status, out, _ = gate(*grouped)
    assert status == 1
    assert out.startswith("verdict: regressed (rule drop=0.05,alpha=0.05; category:games: each; rest: each)\n")
    assert "  category:games (each): regressed; 1 of 5 trials did not pass; the rule requires each to pass\n" in out
    (tmp_path / "pyproject.toml").write_text("[tool.pytest-harbor.gate]\nrule = 'eech'\n")
    status, out, err = gate(*grouped)
    assert (status, out) == (2, "")
    assert "pyproject.toml: [tool.pytest-harbor.gate]: 'eech' is not valid" in err


def test_group_without_tasks(gate, grouped):
    status, out, err = gate(*grouped, "--gate=category:gams: each")
    assert (status, out) == (2, "")
    assert err == ("pytest-harbor: --gate: category:gams: no task has the category 'gams'; did you mean 'games'?\n")
