"""The HTML page without a browser: its content, and that no text in it becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import stat
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from html_runs import call, full_result, long_run, result_of, verdict_on, write_calls, write_logs
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util.logs import MAX_LINES, read_tail
from pytest_harbor.report.html import render, write
from pytest_harbor.report.html.failing_tests import diff
from pytest_harbor.report.html.markup import Markup, duration, moment, number, tag
from pytest_harbor.report.html.trials import MAX_LOG_BYTES
from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

HOSTILE = (
    "</pre></article></main><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onfocus='alert(1)' autofocus='",
    "<!-- <![CDATA[ ]]> -->",
    "&lt;script&gt; &amp; &#60;b&#62; &nbsp",
    "javascript:alert(1)",
    "]]><svg/onload=alert(1)>",
    "\x1b[2J\x1b]8;;http://evil\x07link\x1b]8;;\x07 \x00\x07\x08\x7f\x9b31m",
    "safe\u202egnp.exe\u2066\u2069 \u200b\ufeff \u2028\u2029 \ufffe",
    "zalgo" + "\u0300\u0489" * 50,
    "\ud800 lone \udfff",
    "x" * 5_000,
)


class Outline(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.seen: list[str] = []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, tuple(key for key, _ in attributes)))
        self.attributes += [(name, key, value) for key, value in attributes]
        if name not in ("meta", "link", "input"):
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, tuple(key for key, _ in attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.texts.setdefault(self.open[-1], []).append(data)
        else:
            self.seen.append(data)

    @property
    def text(self) -> str:
        return "".join(self.seen)


def page_of(*results, **more) -> str:
    return "".join(render(results, **more))


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == [], "there are unclosed elements"
    return found


def hostile_page(text: str, directory: Path) -> str:
    write_logs(directory, text, text)
    (directory / "exception.txt").write_bytes(text.encode("utf-8", "replace"))
    write_calls(directory, call(at=text, method=text, path=text, model=text, source=text, error=text))
    results = [full_result(text, directory), full_result(text, directory, attempt=2, outcome="error", reward=None)]
    instruction = directory / "task" / "instruction.md"
    instruction.parent.mkdir(exist_ok=True)
    instruction.write_bytes(text.encode("utf-8", "replace"))
    for result in results:
        result.task_path = str(instruction.parent)
    return page_of(*results, verdict=verdict_on(results), title=text, base=directory.parent, rerun=lambda _: text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_not_markup(text, tmp_path):
    page = outline(hostile_page(text, tmp_path))
    tame = outline(hostile_page("tame", tmp_path))
    assert page.elements == tame.elements
    assert page.texts == tame.texts


# Without a plus: lines of a diff are marked.
@given(text=st.text(st.characters(exclude_characters="+"), min_size=1).filter(lambda text: text.strip()))
@pytest.mark.slow
def test_arbitrary_text_is_not_markup(text):
    result = full_result(text + "x")
    assert outline(page_of(result)).elements == outline(page_of(full_result("tame"))).elements


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_page_is_printable(text, tmp_path):
    page = hostile_page(text, tmp_path)
    assert [c for c in page if not c.isprintable() and c not in "\n\t"] == []
    page.encode()


def test_content_security_policy(tmp_path):
    page = hostile_page(HOSTILE[0], tmp_path)
    found = outline(page)
    for element, key, value in found.attributes:
        assert not key.startswith("on"), (element, key)
        assert key not in ("style", "src", "srcset", "action", "srcdoc"), (element, key)
        if key == "href":
            assert value == "data:," if element == "link" else re.fullmatch(r"#[a-z]+(-\d+)?|[\w./%-]+", value), value
    assert [name for name, _ in found.elements].count("script") == 1
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("script", "style"):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found.texts[kind]]
        assert rules[f"{kind}-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert "url(" not in "".join(found.texts["style"])
    assert not re.search(r"innerHTML|eval\(|fetch|XMLHttp|https?:", found.texts["script"][0])


def test_only_tag_makes_markup():
    assert tag("p", "<b>", Markup("<i>x</i>"), None, 3, class_="a", hidden=True, title=None) == (
        '<p class="a" hidden>&lt;b&gt;<i>x</i>3</p>'
    )
    assert tag("p", f"{tag('b', 'x')}") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"


# Logs.


def test_log_tail(tmp_path):
    write_logs(tmp_path, "one\ntwo\r\n\x1b[31mthree\x1b[0m\n\n")
    log = read_tail(tmp_path, AGENT_LOG, 1000)
    assert (log.text, log.complete) == ("one\ntwo\nthree", True)


def test_long_log_begins_with_a_whole_line(tmp_path):
    write_logs(tmp_path, "".join(f"line {n}\n" for n in range(1000)))
    log = read_tail(tmp_path, AGENT_LOG, 100)
    assert log.text.startswith("line 98")
    assert log.text.endswith("line 999")
    assert not log.complete


def test_log_of_one_line_begins_with_a_whole_character(tmp_path):
    write_logs(tmp_path, "ü" * 100_000)
    for limit in (100, 101):
        assert read_tail(tmp_path, AGENT_LOG, limit).text == "ü" * 50


def test_log_of_many_lines(tmp_path):
    write_logs(tmp_path, "x\n" * 10_000)
    log = read_tail(tmp_path, AGENT_LOG, 1 << 20)
    assert log.text == "\n".join(["x"] * MAX_LINES)
    assert not log.complete


def test_binary_log_is_printable(tmp_path):
    write_logs(tmp_path, bytes(range(256)) * 10)
    text = read_tail(tmp_path, AGENT_LOG, 1000).text
    assert all(c.isprintable() or c in "\n\t" for c in text)


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_empty_log_is_none(tmp_path, content):
    write_logs(tmp_path, content)
    assert read_tail(tmp_path, AGENT_LOG, 100) is None


def test_missing_log_is_none(tmp_path):
    assert read_tail(tmp_path, AGENT_LOG, 100) is None
    assert read_tail(tmp_path / "gone", AGENT_LOG, 100) is None
    (tmp_path / AGENT_LOG).mkdir(parents=True)
    assert read_tail(tmp_path, AGENT_LOG, 100) is None


def test_pipe_is_not_read(tmp_path):
    (tmp_path / "agent").mkdir()
    os.mkfifo(tmp_path / AGENT_LOG)
    assert read_tail(tmp_path, AGENT_LOG, 100) is None
    (tmp_path / "verifier").parent.joinpath("verifier").symlink_to("agent")
    assert read_tail(tmp_path, TEST_LOG, 100) is None


def test_link_out_of_the_directory_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    write_logs(secret, "of the host")
    trial = tmp_path / "trial"
    (trial / "agent").mkdir(parents=True)
    (trial / AGENT_LOG).symlink_to(secret / AGENT_LOG)
    assert read_tail(trial, AGENT_LOG, 100) is None
    (trial / AGENT_LOG).unlink()
    (trial / "agent").rmdir()
    (trial / "agent").symlink_to(secret / "agent")
    assert read_tail(trial, AGENT_LOG, 100) is None
    assert "of the host" not in page_of(result_of(directory=str(trial)))


def test_link_above_the_directory_is_followed(tmp_path):
    write_logs(tmp_path / "real", "there")
    (tmp_path / "link").symlink_to("real")
    assert read_tail(tmp_path / "link", AGENT_LOG, 100).text == "there"


# Size.


def test_page_size_is_limited(tmp_path):
    logs = write_logs(tmp_path, "<&>" * 700_000, b"\xff" * 2_000_000)
    failures = [InnerTest("n" * 300, "m" * 2_000)] * 20
    results = [
        full_result(directory=logs, attempt=n, tests=InnerTests(0, 20, 0, 0, failures), warnings=["w" * 9_999] * 999)
        for n in range(100)
    ]
    sizes = [len(piece.encode()) for piece in render(results)]
    # Escaping makes text at most five times as long.
    assert sum(sizes) < 6 * MAX_LOG_BYTES
    assert max(sizes) < 1 << 20


def test_thousand_trials_get_smaller_shares(tmp_path):
    logs = write_logs(tmp_path, "x" * 99 + "\n", "y" * 1_000_000)
    results = [result_of(attempt=n, directory=str(logs)) for n in range(1000)]
    assert sum(len(piece) for piece in render(results)) < 2 * MAX_LOG_BYTES


def test_page_does_not_depend_on_the_order_of_results(tmp_path):
    results = long_run(20, 3, tmp_path)
    verdict = verdict_on(results)
    page = page_of(*results, verdict=verdict)
    shuffled = random.Random(1).sample(results, len(results))
    assert page_of(*shuffled, verdict=verdict) == page


# Content.


def test_verdict_comes_first():
    results = [result_of(f"tb2/{n}", "failed" if n < 5 else "passed") for n in range(10)]
    verdict = verdict_on(results)
    assert verdict.word == "regressed"
    page = page_of(*results, verdict=verdict, title="Nightly")
    assert "<title>regressed: Nightly</title>" in page
    text = outline(page).text
    places = [text.index(part) for part in ("Verdict: regressed", verdict.reasons[0], "Rule: ", "Totals", "pass rate")]
    assert places == sorted(places)
    assert "Regressions (5)" in text
    assert "1.00 → 0.25" in text


@pytest.mark.parametrize(
    "outcomes, words",
    [
        (["passed"], "1 task passed"),
        (["passed", "passed", "skipped"], "All 2 tasks passed"),
        (["passed", "failed", "unverified", "error"], "2 of 4 tasks failed"),
        (["failed", "unverified"], "All 2 tasks failed"),
        (["unverified"], "1 task failed"),
        (["passed", "error"], "1 error in 2 tasks"),
        (["skipped", "skipped"], "2 tasks skipped"),
        ([], "No trial ran"),
    ],
)
def test_page_without_a_verdict_begins_with_what_failed(outcomes, words):
    page = page_of(*(result_of(f"tb2/{number}", outcome) for number, outcome in enumerate(outcomes)))
    assert f"<title>{words}: " in page
    assert f"{words}</p>" in page
    assert "Verdict" not in page
    assert "Changes" not in page


def test_run_that_stopped_early_never_looks_like_a_success():
    page = page_of(result_of(), result_of("tb2/b"), not_run=["tb2/<c>", "tb2/d"])
    assert "<title>2 tasks passed, stopped early: " in page
    assert "2 tasks did not run: tb2/&lt;c&gt;, tb2/d</p>" in page
    assert "is-passed" not in page[page.index("<body>") :]


def test_expected_failures_do_not_count_as_failures():
    expected = [result_of("tb2/a", "failed", xfail=True), result_of("tb2/b"), result_of("tb2/c", xfail=True)]
    page = page_of(*expected)
    assert "<title>2 tasks passed, 1 failed as expected: " in page
    assert [row.count("expected to fail") for row in rows_of(page)] == [1, 0, 1]
    page = page_of(*expected, result_of("tb2/d", "failed"))
    assert "<title>1 of 4 tasks failed: " in page
    assert "tb2/d" in rows_of(page)[0]


def test_title_names_datasets_and_agents():
    assert "<title>All 2 trials passed: tb2 with claude, codex</title>" in page_of(
        result_of(), result_of(agent="codex")
    )


def rows_of(page: str) -> list[str]:
    """Return the text of each row of the table of trials."""
    return [outline(row).text for row in re.findall(r'<tr class="row">.*?</tr>', page, re.DOTALL)]


def test_trials_that_did_not_pass_come_first_with_their_reasons():
    tests = InnerTests(1, 2, 0, 0, [InnerTest("test_a", "no such file: out.txt"), InnerTest("test_b", "x")])
    rows = rows_of(
        page_of(
            result_of("tb2/a"),
            result_of("tb2/b", "skipped", reason="Windows is not supported", phases={}),
            result_of("tb2/c", "error", reason="the engine does not answer"),
            result_of("tb2/d", "failed", tests=tests),
            result_of("tb2/e", agent_timed_out=True, agent_note="timed out after 60 s"),
        )
    )
    assert [re.search(r"tb2/(.)", row)[1] for row in rows] == ["d", "c", "a", "e", "b"]
    for row, expected in zip(
        rows,
        ("2 of 3 tests failed", "the engine does not answer", "", "agent timed out", "Windows is not supported"),
        strict=True,
    ):
        assert expected in row


def test_a_mean_is_never_pooled_over_agents():
    results = [result_of(), result_of("tb2/b", "failed"), result_of(agent="codex"), result_of("tb2/b", agent="codex")]
    page = page_of(*results)
    section = page[page.index('<section id="agents"') :]
    cells = [
        [outline(cell).text.strip() for cell in re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", row)]
        for row in section[: section.index("</section>")].split("</tr>")
    ]
    assert cells[:3] == [
        ["agent", "pass rate", "mean reward", "time / trial"],
        ["claude", "50.0% 1 of 2", "0.62", "1 min 2 s"],
        ["codex", "100.0% 2 of 2", "1.00", "1 min 2 s"],
    ]
    assert outline(page).text.count("mean reward") == 1


def test_pass_at_k():
    page = page_of(result_of(), result_of("tb2/a", "failed", attempt=2))
    assert '<th scope="col">pass@2</th><th scope="col">pass^2</th>' in page
    other = [result_of(agent="codex", attempt=number) for number in (1, 2, 3)]
    page = page_of(result_of(), result_of("tb2/a", "failed", attempt=2), *other)
    assert '<th scope="col">pass@k</th><th scope="col">pass^k</th>' in page
    assert "100.0% (k=2)" in page
    assert "100.0% (k=3)" in page
    assert "50.0%" in page


def test_grid_has_rewards_and_a_mark_per_attempt():
    results = [result_of(attempt=1), result_of("tb2/a", "failed", attempt=2), result_of("tb2/b", "error", "codex")]
    page = page_of(*results, verdict=verdict_on(results))
    start = page.index('<table class="grid')
    grid = page[start : page.index("</table>", start) + 8]
    text = outline(grid).text
    assert "0.62▼ worse, was 1.00flaky✓✕" in text
    assert "no reward!" in text
    assert text.count("not run") == 2
    assert 'aria-label="tb2/a, attempt 2: failed, reward 0.25"' in grid


def test_single_attempts_of_one_agent_need_no_grid():
    assert 'class="grid' not in page_of(result_of(), result_of("tb2/b"))


def test_confirmations_are_shown_and_do_not_count():
    results = [result_of("tb2/a", "failed"), *(result_of(confirmation=n, node_id=f"a[c{n}]") for n in (1, 2))]
    text = outline(page_of(*results, verdict=verdict_on(results))).text
    assert "1 task, 2 confirmations not included" in text
    assert "confirmation 2" in text
    assert "0.25▼ worse, was 1.00✕✓✓" in text
    assert "flaky" not in text


def test_reruns_are_trials_of_their_own():
    rows = rows_of(page_of(result_of("tb2/a", "failed"), result_of(rerun=1)))
    assert "attempt 1" in rows[0]
    assert "attempt 1, rerun 1" in rows[1]


def test_details_of_a_trial(tmp_path):
    write_logs(tmp_path, "from the agent <x>\n", "from the tests\n")
    result = full_result(directory=tmp_path, task="tb2/a", reason="no reward\nat all", warnings=["64 CPUs"])
    page = page_of(result)
    section = page[page.index('<tbody id="trial-1"') :]
    text = outline(section[: section.index("</tbody>") + 8]).text
    for expected in (
        "failed",
        "tb2/a",
        "0.25, needs 1",
        "exited with 1",
        "test.sh exited with 3",
        "text 1.5",
        "agent 1 min 0 s",
        "no reward\nat all",
        "2 of 10 tests failed",
        "and 1 more",
        "64 CPUs",
        "[text] text",
        "from the agent <x>",
        "from the tests",
    ):
        assert expected in text


def test_error_shows_its_exception(tmp_path):
    (tmp_path / "exception.txt").write_text("Traceback: it broke\n")
    assert "Traceback: it broke" in page_of(result_of(outcome="error", directory=str(tmp_path)))
    assert "Traceback: it broke" not in page_of(result_of(directory=str(tmp_path)))


@pytest.mark.parametrize(
    "value, text",
    [(None, "none"), (1, "1.00"), (1 / 3, "0.33"), (0.9999, "0.9999"), (1e-9, "1e-09"), (-2.5, "-2.50"), (0, "0.00")],
)
def test_rewards_are_not_rounded_to_0_or_1(value, text):
    assert number(None if value is None else float(value)) == text


def test_durations():
    assert [duration(seconds) for seconds in (0.04, 59.9, 59.97, 125, 3600, 3_723, 360_000)] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "2 min 5 s",
        "1 h 0 min",
        "1 h 2 min",
        "100 h 0 min",
    ]


def test_times_are_local_and_readable(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        shown = moment("2026-11-21T08:00:00.123+00:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown == '<time datetime="2026-11-21T09:00:00+01:00">Nov 21, 2026, 09:00 CET</time>'
    assert moment("<b>never") == "&lt;b&gt;never"
    assert moment("") is None


def test_same_message_is_shown_once():
    tests = InnerTests(0, 25, 0, 0, [InnerTest(f"row {n}", "no file" if n != 7 else "wrong") for n in range(20)])
    text = outline(page_of(result_of(outcome="failed", tests=tests))).text
    assert text.count("no file") == 2, "once in the reason and once in the details"
    assert "row 0, row 1, row 2" in text
    assert "(19 tests, same message)" in text
    assert "and 5 more" in text


def test_filter_offers_reasons_that_trials_share():
    tests = InnerTests(0, 1, 0, 0, [InnerTest("a", "\n no <file>\nmore")])
    results = [result_of(f"tb2/{n}", "failed", tests=tests) for n in range(3)]
    results += [result_of("tb2/b", "error", reason="lost"), result_of("tb2/c")]
    page = page_of(*results)
    assert re.findall(r"<option[^>]*>(.*?)</option>", page) == ["all reasons", "no &lt;file&gt; (3)"]
    assert page.count('data-cause="no &lt;file&gt;"') == 3
    assert 'id="by-reason"' not in page_of(*results[2:])


def test_lines_of_a_diff_are_marked():
    assert diff("E   assert\nE   - a<\nE   + b") == (
        'E   assert\n<span class="del">E   - a&lt;</span>\n<span class="add">E   + b</span>'
    )
    assert diff("- one\n- two") == "- one\n- two"


def test_instruction_is_shown(tmp_path):
    (tmp_path / "instruction.md").write_text("<!-- canary x -->\nWrite a <file>.\n")
    page = page_of(result_of(task_path=str(tmp_path)))
    assert "<summary>Instruction</summary><pre>Write a &lt;file&gt;.</pre>" in page


def test_turns_of_the_openai_agent(tmp_path):
    messages = [
        {"role": "user", "content": "x"},
        {"content": '"role": "assistant"', "role": "assistant"},
        {"role": "tool"},
    ]
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "transcript.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in messages * 2))
    assert "<dt>turns</dt><dd>2</dd>" in page_of(result_of(directory=str(tmp_path)))


def test_links_lead_to_the_files_of_a_trial(tmp_path):
    trial = write_logs(tmp_path / "runs" / "a b%__1", "agent", "tests")
    (trial / "verifier" / "reward.txt").symlink_to("/etc/hostname")
    write(tmp_path / "report.html", [result_of(directory=str(trial))])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<a href="(runs[^"]*)"', page)
    assert found == [f"runs/a%20b%25__1/{name}" for name in ("agent/agent.log", "verifier/test-stdout.txt", "")]
    assert all((tmp_path / unquote(href)).exists() for href in found)


def test_links_start_from_where_the_page_is_opened(tmp_path):
    trial = write_logs(tmp_path / "real" / "run" / "a__1", "agent")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link" / "run" / "report.html", [result_of(directory=str(tmp_path / "link" / "run" / trial.name))])
    assert '<a href="a__1/agent/agent.log"' in (tmp_path / "real" / "run" / "report.html").read_text(encoding="utf-8")


def test_command_that_reruns_a_trial():
    page = page_of(result_of(node_id="t::a"), rerun=lambda result: f"pytest '{result.node_id}' --x=\"<&\"")
    assert "pytest 't::a' --x=\"&lt;&amp;\"</code>" in page
    assert "Rerun" not in page_of(result_of(), rerun=lambda _: "")


# The file.


def test_write_replaces_an_earlier_page(tmp_path):
    file = tmp_path / "deep" / "report.html"
    write(file, [result_of()])
    before = file.stat().st_ino
    write(file, [result_of(), result_of("tb2/b")], title="ü")
    assert file.read_text(encoding="utf-8") == page_of(result_of(), result_of("tb2/b"), title="ü")
    assert file.stat().st_ino != before
    assert [path.name for path in file.parent.iterdir()] == ["report.html"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_failed_write_keeps_the_earlier_page(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("before")
    with pytest.raises(TypeError):
        write(file, [result_of(), result_of("tb2/b", warnings=1)])
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_write_keeps_a_link_and_refuses_a_device(tmp_path):
    (tmp_path / "link.html").symlink_to("real.html")
    write(tmp_path / "link.html", [])
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").is_file()
    os.mkfifo(tmp_path / "pipe")
    for path, problem in ((tmp_path / "pipe", "not a regular file"), (tmp_path, "a directory")):
        with pytest.raises(OSError, match=problem):
            write(path, [])
    assert (tmp_path / "pipe").is_fifo()
