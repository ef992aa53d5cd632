"""GitHub reports: no text from tasks or agents becomes anything but text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util.text import one_line
from pytest_harbor.gate import Baseline, GateSpec, judge, samples_of
from pytest_harbor.report import github
from pytest_harbor.report.github import (
    COMMENT_LIMIT,
    MARKER,
    SUMMARY_LIMIT,
    Report,
    commands,
    inline_code,
    truncate,
)
from pytest_harbor.report.workflow_commands import escape_commands, is_github_actions
from pytest_harbor.trial import TrialResult, Usage


def result(task="tb2/a", reward: float | None = 1.0, attempt=1, **fields) -> TrialResult:
    outcome = "error" if reward is None else "passed" if reward >= 1 else "failed"
    given = {"run": "r", "dataset": "tb2", "task_path": f"/repo/{task}", "agent": "bot", "outcome": outcome}
    given.update(fields)
    return TrialResult(task=task, reward=reward, attempt=attempt, task_digest="d", **given)


def report(*results: TrialResult, before=None, rule="drop=0.05", **what) -> Report:
    samples = samples_of(results)
    verdict = None
    if before is not None:
        verdict = judge(samples, Baseline(samples_of(before)), GateSpec.parse(rule))
    return Report(results, samples, verdict, **what)


def many(reward: float, tasks: int = 12, prefix="tb2/") -> list[TrialResult]:
    return [result(f"{prefix}{n:04}", reward, attempt) for n in range(tasks) for attempt in range(1, 6)]


def text_of(each: Report) -> str:
    return "".join(github.summary(each))


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b|c",
    "`x` **b** _i_ ~~s~~",
    "@everyone @org/team",
    "https://evil.example www.evil.example a@evil.example",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "# title",
    "#1 GH-1 owner/repo#1",
    "a\n\n<img src=x onerror=y>\n\n::error::x",
    "--> <!-- pytest-harbor -->",
    "</details></code>",
    "\x1b[31mred\x00",
    "\u202etxt.exe",
    "&lt;b&gt; &#64;everyone",
    "\\",
    ":smile:",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    code = inline_code(text)
    assert re.fullmatch(r"<code>[A-Za-z0-9 ,/=\-&#;\u00a1-\U0010ffff]*</code>", code)
    assert html.unescape(code.removeprefix("<code>").removesuffix("</code>")) == one_line(text)


@given(st.text(max_size=200))
def test_any_text_stays_text(text):
    code = inline_code(text)
    assert not re.search(r"[\n\r|`*_@<>\[\]()~:.!\\\"']", code.removeprefix("<code>").removesuffix("</code>"))
    assert html.unescape(code.removeprefix("<code>").removesuffix("</code>")) == one_line(text)


def test_long_text_is_cut():
    assert len(inline_code("x" * 10_000)) < 350


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_escapes_in_a_summary(text):
    results = [*many(1), result(f"tb2/{text}", 0.0, agent=text), result(f"{text}/x", None, reason=text)]
    before = [*many(1), result(f"tb2/{text}", 1.0, agent=text)]
    whole = text_of(report(*results, before=before, rule="each"))
    without_code = re.sub(r"<code>[^<]*</code>", "", whole)
    assert set(re.findall(r"<[^>]*>", without_code)) <= {"<details>", "</details>", "<summary>", "</summary>"}
    assert not re.search(r"[@`\[\]!\x1b]", without_code)
    rows = [line for line in without_code.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} <= {6, 7, 8}


def test_verdict_then_tasks():
    whole = text_of(report(*many(0, 6), *many(1, 6, "x/"), before=[*many(1, 6), *many(1, 6, "x/")]))
    lines = [line for line in whole.splitlines() if line]
    assert lines[0] == "## pytest-harbor"
    assert lines[1].startswith("**Verdict: regressed** (rule <code>drop=0&#46;05,alpha=0&#46;05</code>)")
    assert "60 trials in total: 30 passed, 30 failed, 0 unverified, 0 errors" in lines
    assert "### Regressions (6)" in lines
    note = "passed 5 of 5, now 0 of 5; more than chance explains"
    assert (
        f"| <code>tb2/0000</code> | <code>bot</code> | 1.00 | 0.00 | {note} | <code>reward 0, needs 1</code> |" in lines
    )
    assert whole.index("Verdict") < whole.index("Regressions") < whole.index("All trials (60)")


def test_without_a_gate_what_failed_comes_first_with_its_reason():
    results = [result(), result("tb2/b", 0.0, agent_exit=3), result("tb2/c", None, reason="no engine; start one")]
    whole = html.unescape(text_of(report(*results)))
    assert "Verdict" not in whole
    lines = [line for line in whole.splitlines() if line]
    assert lines[1] == "**1 of 3 tasks failed**"
    rows = lines[lines.index("### Not passed (2)") + 3 :]
    why = "reward 0, needs 1; agent exited with 3"
    assert rows[0] == f"| <code>tb2/b</code> | <code>bot</code> | failed | 0.00 | <code>{why}</code> |"
    assert rows[1] == "| <code>tb2/c</code> | <code>bot</code> | error | - | <code>no engine</code> |"
    assert whole.index("Not passed") < whole.index("### Agent\n") < whole.index("All trials (3)")


def test_run_that_stopped_early():
    whole = html.unescape(text_of(report(result(), not_run=["tb2/b", "tb2/<c>"])))
    assert "**1 task passed, stopped early**" in whole
    assert "Not run (2 tasks): <code>tb2/b, tb2/<c></code>" in whole


def test_confirmations_are_not_trials():
    whole = html.unescape(text_of(report(result(reward=0.0), result(reward=0.0, confirmation=1))))
    assert "1 trial in total: 0 passed, 1 failed, 0 unverified, 0 errors (1 confirmation not included)" in whole
    assert "All trials (1)" in whole


def test_agents_have_rows_and_no_common_mean():
    results = [result(f"tb2/{n}", reward, n, agent=agent) for agent, reward in (("a", 1.0), ("b", 0.0)) for n in (1, 2)]
    whole = html.unescape(text_of(report(*results)))
    assert "| <code>a</code> | 2 of 2 | 100.0% | 1.00 | - |" in whole
    assert "| <code>b</code> | 0 of 2 | 0.0% | 0.00 | - |" in whole
    assert whole.count("mean reward") == 1


def test_expected_failures_need_no_attention(tmp_path):
    expected = report(result(), result("tb2/b", 0.0, xfail=True))
    assert "**1 task passed, 1 failed as expected**" in text_of(expected)
    assert "Not passed" not in text_of(expected)
    assert commands(expected, tmp_path) == []


def test_many_failures_are_cut_short():
    whole = text_of(report(*many(0, 20)))
    assert "### Not passed (100)" in whole
    assert "\nand 70 more, below\n" in whole


def test_tables_follow_an_empty_line():
    whole = text_of(report(*many(0), before=many(1)))
    lines = whole.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("| task"):
            assert lines[place - 1] == "" or lines[place - 1].startswith("### ")
            assert lines[place + 1].startswith("| ---")
            assert line.count("|") == lines[place + 1].count("|") == lines[place + 2].count("|")


@pytest.mark.parametrize("limit", [0, 10, 200, 5_000, 65_536])
def test_long_summary_is_cut_between_parts_with_a_note(limit):
    parts = github.summary(report(*many(0, 300), before=many(1, 300)))
    whole = truncate(parts, limit)
    assert len(whole.encode()) <= limit
    assert whole.count("<details>") == whole.count("</details>")
    if limit > 200:
        assert whole.endswith("The rest is omitted because of GitHub's size limit.\n")


@given(st.lists(st.text(max_size=30)), st.integers(0, 300))
def test_truncate_never_exceeds_its_limit(parts, limit):
    assert len(truncate(parts, limit).encode("utf-8", "replace")) <= limit


# Model usage.


def used(cost: float | None = 0.04, **fields) -> Usage:
    return Usage(requests=3, input_tokens=12_000, output_tokens=300, cost=cost, **fields)


def test_usage_of_run_and_trials_and_its_change():
    spent = "--harbor-max-turns=3 is spent"
    after = [result(usage=used(0.05), budget=spent), result("tb2/b")]
    whole = html.unescape(text_of(report(*after, before=[result(usage=used())])))
    assert "- <code>bot: mean cost $0.050 per trial, +25% vs. the baseline; mean tokens 12.3k per trial, same" in whole
    assert "<code>models: 3 calls, 12.0k input tokens (0 cached), 300 output tokens (0 reasoning), cost $0.050" in whole
    rows = [line for line in whole[whole.index("<details>") :].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {11}
    assert rows[0] == "| task | agent | attempt | outcome | reward | seconds | calls | tokens | cost |  |"
    numbers = "<code>3</code> | <code>12.3k</code> | <code>$0.050</code>"
    assert rows[2].endswith(f" | 0.0 | {numbers} | <code>{spent}</code> |")
    assert rows[3].endswith(" | 0.0 | <code>-</code> | <code>-</code> | <code>-</code> |  |")


def test_no_usage_no_mention_of_models():
    whole = text_of(report(result(), before=[result(usage=used())]))
    assert not re.search("models|tokens|cost", whole)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_model_name_stays_text(text):
    whole = text_of(report(result(usage=used(None, unpriced=[text, "~~s~~", "$x$"]), budget=text)))
    without_code = re.sub(r"<code>[^<]*</code>", "", whole)
    assert set(re.findall(r"<[^>]*>", without_code)) <= {"<details>", "</details>", "<summary>", "</summary>"}
    assert not re.search(r"[@`\[\]!$~\x1b]", without_code)


# Annotations.


def test_annotation_has_the_path_in_the_repository(tmp_path):
    failed = result("tb2/b", 0.0, task_path=str(tmp_path / "data/tb2/b"))
    (command,) = commands(report(result(), failed), tmp_path)
    assert command == ("::error file=data/tb2/b/task.toml,line=1,title=failed%3A tb2/b::reward 0, needs 1 (agent bot)")


@pytest.mark.parametrize("root", [None, "/elsewhere"])
def test_task_outside_the_repository_has_no_location(root, tmp_path):
    (command,) = commands(report(result("tb2/b", 0.0)), tmp_path / "no" if root else None)
    assert command.startswith("::error title=failed%3A tb2/b::")


@pytest.mark.parametrize("text", [*HOSTILE, "a::error::b", "x,line=9", "100%25", "a%0A::error::b", "new\r\nline"])
def test_hostile_text_is_not_a_command(text, tmp_path):
    task = result(f"tb2/{text}", None, reason=f"{text}\n::error::{text}", task_path=str(tmp_path / text))
    (command,) = commands(report(task), tmp_path)
    assert "\n" not in command
    assert "\r" not in command
    head, properties, data = re.fullmatch(r"::(error) ((?:[^:,]+,?)+)::(.*)", command).groups()
    assert head == "error"
    names = [each.partition("=")[0] for each in properties.split(",")]
    assert names == ["file", "line", "title"]
    assert not re.search(r"%(?!25|0A|0D|3A|2C)", properties)
    assert not re.search(r"%(?!25|0A|0D)", data)


def test_ten_annotations_per_level_and_a_count(tmp_path):
    results = [result(f"tb2/{n:02}", 0.0) for n in range(30)]
    lines = commands(report(*results), tmp_path)
    assert len(lines) == 10
    assert lines[-1] == "::error title=pytest-harbor::21 more; see the step summary"
    assert len(commands(report(*results[:10]), tmp_path)) == 10


def attempts(task: str, *rewards: float, **fields) -> list[TrialResult]:
    return [result(task, reward, attempt, **fields) for attempt, reward in enumerate(rewards, 1)]


def annotated(lines: list[str]) -> list[str]:
    return re.findall("title=regressions%3A ([^:]*)::", "\n".join(lines))


def test_flaky_regression_keeps_its_place(tmp_path):
    before = [*many(1), *attempts("x/mild", 1, 1, 1, 1, 1), *attempts("x/worst", 1, 1, 1, 1, 1)]
    after = [*many(1), *attempts("x/mild", 0, 1, 1, 1, 1), *attempts("x/worst", 0, 0, 0, 0, 1)]
    lines = commands(report(*after, before=before, rule="each"), tmp_path)
    assert annotated(lines) == ["x/worst", "x/mild"]
    assert not [line for line in lines if line.startswith("::notice")], "one annotation per task"


def test_worst_regressions_are_within_the_limit(tmp_path):
    """Flaky tasks that fell far come before 30 others that fell less."""
    worst = {"x/1": (0, 0, 0, 0, 1), "x/2": (0, 0, 0, 1, 1)}
    mild = [f"y/{number:02}" for number in range(30)]
    before = [each for task in (*worst, *mild) for each in attempts(task, 1, 1, 1, 1, 1)]
    after = [each for task, rewards in worst.items() for each in attempts(task, *rewards)]
    after += [each for task in mild for each in attempts(task, 0.7, 0.7, 0.7, 0.7, 0.7)]
    lines = commands(report(*after, before=before), tmp_path)
    assert annotated(lines)[:2] == ["x/1", "x/2"]
    assert lines[9] == "::error title=pytest-harbor::23 more; see the step summary"


def test_worst_regression_comes_first_whichever_agent_it_is(tmp_path):
    before = [*attempts("tb2/a", 1, 1, 1, agent="first"), *attempts("tb2/b", 1, 1, 1, agent="second")]
    after = [*attempts("tb2/a", 0, 1, 1, agent="first"), *attempts("tb2/b", 0, 0, 0, agent="second")]
    assert annotated(commands(report(*after, before=before, rule="each"), tmp_path)) == ["tb2/b", "tb2/a"]


def test_annotation_has_the_highest_level_of_its_task(tmp_path):
    """A new task that is flaky (a notice) and left no reward once (a warning)."""
    mixed = [*attempts("x/new", 0.0, 1.0), result("x/new", 0.0, 3, outcome="unverified")]
    lines = commands(report(*many(0), *mixed, before=many(1)), tmp_path)
    (line,) = [line for line in lines if "x/new" in line]
    assert line.startswith("::warning title=unverified%3A x/new::")


def test_one_annotation_for_all_attempts(tmp_path):
    assert len(commands(report(*[result("tb2/a", 0.0, n) for n in (1, 2, 3)]), tmp_path)) == 1


def test_levels_follow_the_verdict(tmp_path):
    before = many(1)
    flaky = [result("x/f", reward, n) for n, reward in enumerate([1, 0, 1], 1)]

    def levels(*results, **what) -> set[str]:
        return {line.split()[0].strip(":") for line in commands(report(*results, **what), tmp_path)}

    assert levels(*many(0), before=before) == {"error"}
    assert levels(*many(0), *flaky, before=before) == {"error", "notice"}
    assert levels(*many(1), before=before) == set()
    assert levels(*many(1, 11), result("tb2/0011", 0.0), before=before, rule="drop=0.5") == set()
    assert levels(*many(1), result("tb2/new", None), before=before) == {"warning"}
    assert levels(result("tb2/0000", 0.0), before=before) == {"warning"}, "inconclusive"


def test_levels_without_a_verdict(tmp_path):
    trials = [result("a", 0.0), result("b", None), result("c", 0.0, outcome="unverified"), result("d")]
    levels = [line.split()[0] for line in commands(report(*trials), tmp_path)]
    assert levels == ["::error"] * 3
    levels = [line.split()[0] for line in commands(report(*trials, level=None), tmp_path)]
    assert levels == ["::warning"] * 2


# Workflow commands in printed text.


@pytest.mark.parametrize(
    "line",
    ["::error::x", "  ::set-output name=a::b", "\t::stop-commands::x", "##[error]x", "a ##[add-mask]b", ":::"],
)
def test_escaped_text_has_no_command(line):
    for text in (line, f"fine\n{line}\nfine", f"fine\r\n{line}"):
        for each in escape_commands(text).splitlines():
            assert not each.lstrip().startswith("::")
            assert "##[" not in each
        assert len(escape_commands(text)) == len(text) + 1


def test_harmless_text_is_unchanged():
    text = "std::vector a::b\n# [x] ## [y]\nx ::\n: :"
    assert escape_commands(text) == text


# Writing.


def test_publish_writes_files_and_returns_annotations(tmp_path):
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_WORKSPACE": "/repo"}
    (tmp_path / "summary.md").write_text("of another program\n")
    comment = tmp_path / "run" / "github-comment.md"
    lines = github.publish(report(*many(0, 2), before=many(1, 2)), environ, comment)
    assert lines[0].startswith("::error file=tb2/0000/task.toml,line=1,title=regressions%3A tb2/0000::1.00 -> 0.00, ")
    whole = (tmp_path / "summary.md").read_text()
    assert whole.startswith("of another program\n## pytest-harbor\n")
    assert comment.read_text() == f"{MARKER}\n{whole.partition('program' + chr(10))[2]}"


def test_summary_and_comment_stay_within_limits(tmp_path):
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    (tmp_path / "summary.md").write_text("x" * 1000)
    comment = tmp_path / "comment.md"
    big = report(*[result(f"tb2/{n:05}", 0.0, reason="y" * 500) for n in range(12_000)])
    github.publish(big, environ, comment)
    assert SUMMARY_LIMIT * 0.99 < (tmp_path / "summary.md").stat().st_size <= SUMMARY_LIMIT
    assert len(comment.read_text()) <= COMMENT_LIMIT
    # A full summary does not grow.
    github.publish(big, environ, None)
    assert (tmp_path / "summary.md").stat().st_size <= SUMMARY_LIMIT


def test_write_errors_are_reported(tmp_path):
    (tmp_path / "file").write_text("")
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "file" / "x")}
    lines = github.publish(report(result()), environ, tmp_path / "file" / "y" / "comment.md")
    assert [line.partition(":")[2].partition(":")[0] for line in lines] == [
        " the step summary was not written",
        " the comment was not written",
    ]


@pytest.mark.parametrize(
    "environ, expected", [({}, False), ({"GITHUB_ACTIONS": ""}, False), ({"GITHUB_ACTIONS": "true"}, True)]
)
def test_is_github_actions(environ, expected):
    assert is_github_actions(environ) is expected
