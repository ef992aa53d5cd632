"""Baselines on disk."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.gate.baseline import Baseline, BaselineError, Sample

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


@given(st.dictionaries(st.tuples(st.text(), st.text()), SAMPLES, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    baseline = Baseline(samples, {"id": "x"})
    baseline.write(path)
    assert Baseline.read(path) == baseline
    json.loads(path.read_text(encoding="utf-8"))


def test_it_is_sorted_and_has_a_line_an_agent(tmp_path):
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


def test_an_update_leaves_the_rest(tmp_path):
    old = Baseline({("ds/a", "x"): Sample((0.0,), 0), ("ds/b", "x"): Sample((1.0,), 1)}, {"id": "old"})
    new = Baseline({("ds/a", "x"): Sample((1.0,), 1)}, {"id": "new"})
    assert old.updated(new) == Baseline({**old.samples, **new.samples}, {"id": "new"})


GOOD = {"schema_version": 1, "tasks": {"ds/a": {"x": {"rewards": [1.0], "passed": 1}}}}


@pytest.mark.parametrize(
    "text, says",
    [
        (None, "does not exist; make it with --harbor-save-baseline="),
        (" \n", "is empty; save it anew"),
        ("<<<<<<< ours\n{}\n=======\n>>>>>>> theirs\n", "has merge conflicts; take one side"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no baseline: it has no schema_version"),
        ("{}", "is no baseline"),
        ('{"schema_version": true, "tasks": {}}', "is no baseline"),
        ('{"schema_version": 2, "tasks": {}}', "is of version 2, and this pytest-harbor reads up to 1; upgrade"),
        ('{"schema_version": 1}', "changed by hand into what cannot be used: 'tasks'"),
        ('{"schema_version": 1, "tasks": []}', "changed by hand"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {}}}}', "'rewards'"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [NaN]}}}}', "a x: nan is no finite number"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": ["1"]}}}}', "a x: '1' is no finite number"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "passed": 2}}}}', "more attempts passed"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "passed": -1}}}}', "-1 is no count"),
        ('{"schema_version": 1, "tasks": {"a": {"x": {"rewards": [1], "pased": 1}}}}', "unknown key 'pased'"),
    ],
)
def test_what_is_no_baseline_says_what_to_do(tmp_path, text, says):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        Baseline.read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@given(
    st.recursive(st.none() | st.booleans() | FINITE | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_whatever_stands_there_nothing_else_is_raised(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    for data in (value, {**GOOD, "tasks": value}, {**GOOD, "tasks": {"a": {"x": value}}}, {**GOOD, "run": value}):
        path.write_text(json.dumps(data), encoding="utf-8")
        with contextlib.suppress(BaselineError):
            Baseline.read(path)
