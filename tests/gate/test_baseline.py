"""Baseline files."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.gate.baseline import Baseline, BaselineError, Sample, SampleRun, significant
from pytest_harbor.gate.samples import baseline_of, samples_of
from pytest_harbor.trial import TrialResult, Usage

# Sums of these are finite, too.
FINITE = st.floats(-1e300, 1e300)
SHARED = {name: st.text() for name in ("digest", "settings", "image", "provider", "model", "category", "difficulty")}
VALUES = {
    "errors": st.integers(0, 3),
    "seconds": FINITE,
    "agent_seconds": st.floats(0, 1e300).map(significant),
    "usage": st.dictionaries(st.text(), FINITE, max_size=2),
}


def one_run(run: str, rewards: list[float], **others) -> Sample:
    """Return the sample of one run; its attempts are of an unknown run if it has no id."""
    values = {"passed": len(rewards) // 2, **{name: others.pop(name) for name in VALUES if name in others}}
    runs = (SampleRun(run, "2026-11-30T10:00:00+00:00", len(rewards), **values),) if run else ()
    return Sample(tuple(rewards), **values, **others, runs=runs)


REWARDS = st.lists(FINITE, max_size=5)
SAMPLES = st.one_of(
    st.builds(one_run, st.text(max_size=2), REWARDS, **VALUES, **SHARED),
    st.lists(st.builds(one_run, st.just("r"), REWARDS, **VALUES), min_size=2, max_size=4).map(
        lambda parts: Sample.pooled(
            [replace(part, runs=(replace(part.runs[0], id=f"r{n}"),)) for n, part in enumerate(parts)]
        )
    ),
)


@given(st.dictionaries(st.tuples(st.text(), st.text()), SAMPLES, min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    baseline = Baseline(samples, {"id": "x"})
    baseline.write(path)
    assert Baseline.read(path) == baseline
    json.loads(path.read_text(encoding="utf-8"))


def test_file_is_sorted_with_a_line_per_run(tmp_path):
    samples = {
        ("ds/b", "x"): Sample((1.0,), 1),
        ("ds/a", "y"): Sample.pooled([one_run("r1", [0.5, 1.0], digest="d"), one_run("r2", [0.0], digest="d")]),
        ("ds/a", "x"): Sample((), 0),
    }
    Baseline(samples, {"id": "r"}).write(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text().splitlines() == [
        "{",
        ' "schema_version": 1,',
        ' "run": {"id": "r"},',
        ' "tasks": {',
        '  "ds/a": {',
        '   "x": {"runs": [',
        '    {"passed": 0, "rewards": []}',
        "   ]},",
        '   "y": {"digest": "d", "runs": [',
        '    {"date": "2026-11-30T10:00:00+00:00", "id": "r1", "passed": 1, "rewards": [0.5, 1.0]},',
        '    {"date": "2026-11-30T10:00:00+00:00", "id": "r2", "passed": 0, "rewards": [0.0]}',
        "   ]}",
        "  },",
        '  "ds/b": {',
        '   "x": {"runs": [',
        '    {"passed": 1, "rewards": [1.0]}',
        "   ]}",
        "  }",
        " }",
        "}",
    ]


def test_update_keeps_other_tasks(tmp_path):
    old = Baseline({("ds/a", "x"): Sample((0.0,), 0), ("ds/b", "x"): Sample((1.0,), 1)}, {"id": "old"})
    new = Baseline({("ds/a", "x"): Sample((1.0,), 1)}, {"id": "new"})
    assert old.updated(new) == Baseline({**old.samples, **new.samples}, {"id": "new"})


def of_runs(*runs: str) -> str:
    return f'{{"schema_version": 1, "tasks": {{"a": {{"x": {{"runs": [{", ".join(runs)}]}}}}}}}}'


GOOD = {"schema_version": 1, "tasks": {"ds/a": {"x": {"runs": [{"rewards": [1.0], "passed": 1}]}}}}


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "does not exist; create it with --harbor-save-baseline="),
        (" \n", "is empty; save it again"),
        ("<<<<<<< ours\n{}\n=======\n>>>>>>> theirs\n", "has merge conflicts; take one side"),
        ("a\n||||||| base\nb\n=======\n", "has merge conflicts; take one side"),
        (
            '{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1]}}, "b": {}, "a": {"y": {"rewards": [1]}}}}',
            "has 'a' twice, perhaps after a merge; take one side",
        ),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1]}, "x": {"rewards": [0]}}}}', "has 'x' twice"),
        ('{"schema_version": 1, "tasks": {}}', "has no results of any task; save it again"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a baseline: it has no schema_version"),
        ("{}", "is not a baseline"),
        ('{"schema_version": true, "tasks": {}}', "is not a baseline"),
        ('{"schema_version": 2, "tasks": {}}', "has version 2, but this pytest-harbor reads up to 1; upgrade"),
        ('{"schema_version": 1}', "is not a valid baseline: 'tasks'"),
        ('{"schema_version": 1, "tasks": []}', "is not a valid baseline"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {}}}}', "'runs'"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"run": []}}}}', "a x: unknown key 'run'"),
        (of_runs(), "a x: no run"),
        (of_runs("{}"), "'rewards'"),
        (of_runs('{"rewards": [NaN]}'), "a x: nan is not a finite number"),
        (of_runs('{"rewards": ["1"]}'), "a x: '1' is not a finite number"),
        (of_runs('{"rewards": [1], "passed": 2}'), "more attempts are passed"),
        (of_runs('{"rewards": [1], "passed": -1}'), "-1 is not a count"),
        (of_runs('{"rewards": [1], "pased": 1}'), "unknown key 'pased'"),
        (of_runs('{"id": "r", "rewards": [1]}', '{"id": "r", "rewards": [1]}'), "a x: two runs without an id, or with"),
        (of_runs('{"rewards": [1]}', '{"id": "r", "rewards": [1]}'), "a x: two runs without an id, or with"),
    ],
)
def test_invalid_baseline_error_says_what_to_do(tmp_path, text, message):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        Baseline.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@given(
    st.recursive(st.none() | st.booleans() | FINITE | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_content_raises_anything_else(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    for data in (value, {**GOOD, "tasks": value}, {**GOOD, "tasks": {"a": {"x": value}}}, {**GOOD, "run": value}):
        path.write_text(json.dumps(data), encoding="utf-8")
        with contextlib.suppress(BaselineError):
            Baseline.read(path)


# The runs of a sample.


def test_pooled_sample_adds_up_its_runs():
    first = one_run("r1", [1.0, 0.0], errors=1, seconds=4.0, usage={"calls": 2.0, "cost": 0.01}, digest="old")
    second = one_run("r2", [1.0] * 4, seconds=1.0, usage={"calls": 5.0}, digest="new")
    both = Sample.pooled([first, second])
    assert (both.rewards, both.passed, both.errors) == ((1.0, 0.0, 1.0, 1.0, 1.0, 1.0), 3, 1)
    assert (both.seconds, both.usage, both.digest) == (2.0, {"calls": 4.0}, "new")
    assert [(run.id, run.attempts) for run in both.runs] == [("r1", 2), ("r2", 4)]
    assert both.parts == (replace(first, digest="new"), second)


def test_passes_of_each_run_by_another_threshold():
    both = Sample.pooled([one_run("r1", [0.4, 0.6]), one_run("r2", [0.6])]).graded_by(0.5)
    assert (both.passed, [run.passed for run in both.runs]) == (2, [1, 1])


def test_attempts_are_in_the_order_of_their_runs():
    times = {"late": "2026-11-30T12:00:00+00:00", "early": "2026-11-30T11:00:00+00:00"}
    results = [
        trial(attempt, None, run=run, reward=reward, started_at=times[run])
        for attempt, run, reward in [(1, "late", 0.1), (1, "early", 0.2), (2, "late", 0.3)]
    ]
    sample = samples_of(results)["ds/a", "x"]
    assert sample.rewards == (0.2, 0.1, 0.3)
    assert [(run.id, run.date, run.attempts) for run in sample.runs] == [
        ("early", times["early"], 1),
        ("late", times["late"], 2),
    ]


# Usage.


def trial(attempt: int, usage: Usage | None, **fields) -> TrialResult:
    given = {"run": "r", "task": "ds/a", "dataset": "ds", "task_path": "", "agent": "x", "outcome": "passed"}
    return TrialResult(attempt=attempt, usage=usage, **{**given, "reward": 1.0, **fields})


def test_usage_is_averaged_per_trial(tmp_path):
    first = Usage(
        requests=3, input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=4, cost=0.04, replayed=3
    )
    second = Usage(requests=4, input_tokens=201, cached_tokens=0, output_tokens=30, cost=0.0500004, estimated=1)
    baseline_of([trial(1, first), trial(2, second)]).write(tmp_path / "b.json")
    assert Baseline.read(tmp_path / "b.json").samples["ds/a", "x"].usage == {
        "calls": 3.5,
        "input_tokens": 150.5,
        "cached_tokens": 20.0,
        "output_tokens": 20.0,
        "reasoning_tokens": 2.0,
        "estimated": 0.5,
        "replayed": 1.5,
        "cost": 0.045,
    }


def usage_of(*results: TrialResult) -> dict[str, float]:
    return dict(samples_of(results)["ds/a", "x"].usage)


def test_usage_unknown_for_a_graded_trial_is_dropped():
    free, unpriced = Usage(requests=1), Usage(requests=1, cost=None, unpriced=["m"])
    assert usage_of(trial(1, None)) == usage_of(trial(1, free), trial(2, None)) == {}
    assert usage_of(trial(1, free))["cost"] == 0.0
    assert "cost" not in usage_of(trial(1, free), trial(2, unpriced))
    assert usage_of(trial(1, free), trial(2, unpriced))["calls"] == 1.0
    broken = trial(2, None, outcome="error", reward=None)
    assert usage_of(trial(1, free), broken)["calls"] == 1.0


def test_trial_cut_short_by_the_run_budget_does_not_count():
    def result(attempt, **fields):
        return TrialResult("r", "ds/a", "ds", "", "x", attempt, outcome="failed", reward=0.0, **fields)

    own, cut = "--harbor-max-turns=3 is spent", "--harbor-session-budget of $1.00 is spent ($1.1 used by this run)"
    assert samples_of([result(1, budget=own), result(2, budget=cut)])["ds/a", "x"].rewards == (0.0,)
    assert samples_of([result(1, budget=cut)]) == {}
