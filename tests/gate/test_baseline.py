"""Baseline files."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.gate.baseline import Baseline, BaselineError, Sample
from pytest_harbor.gate.samples import baseline_of, samples_of, save_baseline
from pytest_harbor.trial import TrialResult, Usage

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SAMPLES = st.builds(
    lambda rewards, **others: Sample(tuple(rewards), passed=len(rewards) // 2, **others),
    st.lists(FINITE, max_size=5),
    errors=st.integers(0, 3),
    digest=st.text(),
    image=st.text(),
    provider=st.text(),
    model=st.text(),
    seconds=FINITE,
    usage=st.dictionaries(st.text(), FINITE, max_size=2),
)


@given(st.dictionaries(st.tuples(st.text(), st.text()), SAMPLES, min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    baseline = Baseline(samples, {"id": "x"})
    baseline.write(path)
    assert Baseline.read(path) == baseline
    json.loads(path.read_text(encoding="utf-8"))


def test_file_is_sorted_with_a_line_per_agent(tmp_path):
    samples = {
        ("ds/b", "x"): Sample((1.0,), 1),
        ("ds/a", "y"): Sample((0.5, 1.0), 1, digest="d"),
        ("ds/a", "x"): Sample((), 0),
    }
    Baseline(samples, {"id": "r"}).write(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text().splitlines() == [
        "{",
        ' "schema_version": 1,',
        ' "run": {"id": "r"},',
        ' "tasks": {',
        '  "ds/a": {',
        '   "x": {"passed": 0, "rewards": []},',
        '   "y": {"digest": "d", "passed": 1, "rewards": [0.5, 1.0]}',
        "  },",
        '  "ds/b": {',
        '   "x": {"passed": 1, "rewards": [1.0]}',
        "  }",
        " }",
        "}",
    ]


def test_update_keeps_other_tasks(tmp_path):
    old = Baseline({("ds/a", "x"): Sample((0.0,), 0), ("ds/b", "x"): Sample((1.0,), 1)}, {"id": "old"})
    new = Baseline({("ds/a", "x"): Sample((1.0,), 1)}, {"id": "new"})
    assert old.updated(new) == Baseline({**old.samples, **new.samples}, {"id": "new"})


GOOD = {"schema_version": 1, "tasks": {"ds/a": {"x": {"rewards": [1.0], "passed": 1}}}}


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
        ('{"schema_version": 1, "tasks": {"a": {"x": {}}}}', "'rewards'"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [NaN]}}}}', "a x: nan is not a finite number"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": ["1"]}}}}', "a x: '1' is not a finite number"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "passed": 2}}}}', "more attempts are passed"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "passed": -1}}}}', "-1 is not a count"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "pased": 1}}}}', "unknown key 'pased'"),
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


# Usage.


def trial(attempt: int, usage: Usage | None, **fields) -> TrialResult:
    given = {"run": "r", "task": "ds/a", "dataset": "ds", "task_path": "", "agent": "x", "outcome": "passed"}
    return TrialResult(attempt=attempt, usage=usage, **{**given, "reward": 1.0, **fields})


def test_usage_is_averaged_per_trial(tmp_path):
    first = Usage(requests=3, input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=4, cost=0.04)
    second = Usage(requests=4, input_tokens=201, cached_tokens=0, output_tokens=30, cost=0.0500004, estimated=1)
    baseline_of([trial(1, first), trial(2, second)]).write(tmp_path / "b.json")
    assert Baseline.read(tmp_path / "b.json").samples["ds/a", "x"].usage == {
        "calls": 3.5,
        "input_tokens": 150.5,
        "cached_tokens": 20.0,
        "output_tokens": 20.0,
        "reasoning_tokens": 2.0,
        "estimated": 0.5,
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


RUN = {"run": "r", "dataset": "ds", "task_path": "", "agent": "x", "attempt": 1}


def trials(**outcomes):
    return [
        TrialResult(**RUN, task=f"ds/{name}", outcome=outcome, reward=None if outcome == "error" else 1.0)
        for name, outcome in outcomes.items()
    ]


def test_save_says_what_it_wrote(tmp_path):
    file = tmp_path / "new" / "b.json"
    assert save_baseline(file, trials(a="passed")) == f"baseline of 1 task saved to {file}"
    assert set(Baseline.read(file).samples) == {("ds/a", "x")}


def test_save_updates_an_earlier_baseline(tmp_path):
    file = tmp_path / "b.json"
    old = Baseline({("ds/b", "x"): Sample((1.0,), 1)})
    assert save_baseline(file, trials(a="passed"), update=old) == f"baseline of 2 tasks saved to {file}"


def test_save_refuses_errors_and_gaps_unless_forced(tmp_path):
    file = tmp_path / "b.json"
    results = trials(a="passed", b="error")
    refusal = "b.json was not written: shard 2/2 is missing; 1 infrastructure error; run again, or add --force$"
    with pytest.raises(BaselineError, match=refusal):
        save_baseline(file, results, gaps=["shard 2/2 is missing"], force_option="--force")
    assert not file.exists()
    save_baseline(file, results, gaps=["shard 2/2 is missing"], forced=True)
    assert file.exists()


def test_save_refuses_an_empty_run(tmp_path):
    with pytest.raises(BaselineError, match=r"was not written: no trial ran$"):
        save_baseline(tmp_path / "b.json", [], forced=True)


def test_save_reports_an_unwritable_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BaselineError, match="was not written: "):
        save_baseline(tmp_path / "file" / "b.json", trials(a="passed"))
