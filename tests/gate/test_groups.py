"""Rules for parts of the tasks."""

import pytest

from pytest_harbor.gate import Baseline, Labels, Sample, empty_groups, judge, parse_gate
from pytest_harbor.gate.groups import members
from pytest_harbor.gate.toml_table import GateTableError, find_gate, read_gate

TASKS = {
    "tb2/hello": Labels("games", "easy"),
    "tb2/log-1": Labels("security", "hard"),
    "tb2/log-2": Labels("Security", "hard"),
    "own/hello": Labels(),
}


def run(**rewards):
    """Return a sample per task of TASKS that is named by its last part; without rewards, it passed three times."""
    return {
        (task, "bot"): Sample(
            given := tuple(map(float, rewards.get(task.partition("/")[2].replace("-", ""), (1, 1, 1)))),
            sum(reward >= 1 for reward in given),
            digest="d",
            provider="docker",
            category=labels.category,
            difficulty=labels.difficulty,
        )
        for task, labels in TASKS.items()
    }


def verdict(rule: str, after, before=None, **others):
    return judge(after, Baseline(before or run()), parse_gate(rule), **others)


@pytest.mark.parametrize(
    "group, tasks",
    [
        ("category:security", ["tb2/log-1", "tb2/log-2"]),
        ("difficulty:EASY", ["tb2/hello"]),
        ("dataset:own", ["own/hello"]),
        ("task:hello", ["own/hello", "tb2/hello"]),
        ("task:own/hello,log-*", ["own/hello", "tb2/log-1", "tb2/log-2"]),
    ],
)
def test_tasks_of_a_group(group, tasks):
    (found,) = parse_gate(f"{group}: each").groups
    assert sorted(members(found, TASKS)) == tasks
    assert found.name == group


def test_worst_word_counts_and_rows_name_their_group():
    found = verdict("drop=0.5; category:games: each; task:log-*: each", run(log2=(1, 1, 0)))
    assert found.word == "regressed"
    assert found.reasons[0] == (
        "task:log-* (each): regressed; 1 of 6 trials did not pass; the rule requires each to pass"
    )
    assert found.reasons[-1] == "category:games (each): pass; all 3 graded trials passed"
    assert str(found.spec) == "drop=0.5,alpha=0.05; category:games: each; task:log-*: each"


def test_group_asks_for_no_more_than_its_rule():
    after = run(hello=(0, 0, 1), log1=(1, 1, 0))
    assert verdict("drop=0.9; task:hello: pass-rate=0.3; category:security: flip", after).word == "pass"
    assert verdict("drop=0.9; category:games: drop=0.2", after).word == "inconclusive"


def test_task_that_must_never_break():
    found = verdict("drop=0.9; task:log-*: flip", run(log1=(0, 0, 0)))
    assert found.word == "regressed"
    assert "bot: worse in every attempt at tb2/log-1" in found.reasons[0]
    found = verdict("drop=0.9; task:log-*: flip", run())
    assert "bot: none of 2 tasks got worse in every attempt" in found.reasons[-1]


def test_group_that_did_not_run_is_not_judged():
    after = {key: sample for key, sample in run().items() if key[0] != "tb2/hello"}
    found = verdict("drop=0.5; category:games: each", after, min_coverage=0.5)
    assert found.word == "not judged"
    assert found.reasons[0] == "category:games (each): not judged; no trial ran"


def test_group_counts_its_own_coverage():
    after = {key: sample for key, sample in run().items() if key[0] != "tb2/log-1"}
    found = verdict("drop=0.5; category:security: drop=0.1", after, min_coverage=0.7)
    assert found.word == "not judged"
    assert (
        "category:security (drop=0.1,alpha=0.05): not judged; bot: 1 of 2 tasks in the baseline compared"
        in (found.reasons[0])
    )


def test_groups_without_a_baseline():
    found = judge(run(), None, parse_gate("category:games: each; dataset:tb2: pass-rate=0.9"))
    assert found.word == "pass"
    assert len(found.reasons) == 2
    assert parse_gate("category:games: each; task:log-*: flip").needs_baseline


def test_why_a_run_is_unsure_is_said_once():
    found = verdict("drop=0.5; category:games: each", run(), stopped="-x")
    assert found.word == "not judged"
    assert sum("the run was stopped: -x" in reason for reason in found.reasons) == 1
    assert "category:games (each): not judged" in found.reasons


@pytest.mark.parametrize(
    "text, message",
    [
        ("drop=0.05; categry:games: each", "did you mean category:?"),
        ("drop=0.05; category:games", "category"),
        ("drop=0.05; category:: each", "is empty"),
        ("task:a,: each", "is empty"),
        ("drop=0.05; category:games: drop=5", "category:games: 'drop=5' is not valid"),
        ("category:games: each; category:games: flip", "'category:games' is given twice"),
        (";", "is not valid"),
    ],
)
def test_groups_that_are_not_valid(text, message):
    with pytest.raises(ValueError) as error:
        parse_gate(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "group, message",
    [
        ("category:securty", "category:securty: no task has the category 'securty'; did you mean 'security'?"),
        ("difficulty:x", "no task has the difficulty 'x'; there is easy, hard"),
        ("dataset:tb", "did you mean 'tb2'?"),
        ("task:hello,helo*", "no task matches 'helo*'; did you mean 'hello'?"),
    ],
)
def test_group_without_tasks(group, message):
    (found,) = empty_groups(parse_gate(f"{group}: each").groups, TASKS)
    assert message in found.replace("Security", "security")


def test_unused_label():
    (found,) = empty_groups(parse_gate("category:x: each").groups, {"own/hello": Labels()})
    assert found == "category:x: no task has the category 'x'; no task has a category"


# The table of a configuration file.

TABLE = """
[tool.pytest-harbor.gate]
rule = "drop=0.5"

[[tool.pytest-harbor.gate.groups]]
category = "file operations: a; b"
rule = "drop=0.02,cost=+10%"

[[tool.pytest-harbor.gate.groups]]
name = "smoke"
tasks = ["hello", "log-*"]
rule = "flip"
"""


def test_table(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(TABLE)
    rule = read_gate(file)
    assert str(rule) == (
        "drop=0.5,alpha=0.05; category:file operations: a; b: drop=0.02,alpha=0.05,cost=+10%; smoke: flip"
    )
    assert sorted(members(rule.groups[1], TASKS)) == sorted(TASKS)
    assert find_gate(tmp_path) == (file, rule)
    file.write_text("[tool.other]\n")
    assert find_gate(tmp_path) is None


@pytest.mark.parametrize(
    "table, message",
    [
        ("gate = 3", "must be a table, got 3"),
        ("[pytest-harbor.gate]", "it is empty"),
        ("[pytest-harbor.gate]\nrule = 3", "rule must be a text, got 3"),
        ("[pytest-harbor.gate]\nrules = 'each'", 'unknown key "rules"; use rule, groups'),
        ("[pytest-harbor.gate]\nrule = 'drop=5'", "'drop=5' is not valid"),
        ("[pytest-harbor.gate]\ngroups = 3", "groups must be a list of tables"),
        ("[[pytest-harbor.gate.groups]]\nrule = 'each'", "group 1: it needs exactly one of category, difficulty"),
        ("[[pytest-harbor.gate.groups]]\nname = 'x'\ntasks = 'a'\nrule = 'each'", 'group "x": tasks must be a list'),
        ("[[pytest-harbor.gate.groups]]\ncategory = 'a'", "group 1: rule is missing"),
    ],
)
def test_table_that_is_not_valid(tmp_path, table, message):
    file = tmp_path / "pytest.toml"
    file.write_text(table.replace("gate = 3", "[pytest-harbor]\ngate = 3"))
    with pytest.raises(GateTableError) as error:
        read_gate(file)
    assert str(file) in str(error.value)
    assert message in str(error.value)
