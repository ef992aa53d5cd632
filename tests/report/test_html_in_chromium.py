"""The HTML page in Chromium: one test, because starting Chromium costs more than all the checks."""

from __future__ import annotations

import json
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from chromium import Page, chromium, find
from html_runs import full_result, long_run, result_of, verdict_on, write_logs

from pytest_harbor.report.history import agent_runs
from pytest_harbor.report.html import write
from pytest_harbor.results import RESULTS, StoredRun

HOSTILE = (
    "</pre></details></article><script>document.body.dataset.broken = 1; alert(1)</script>"
    "<img src=http://192.0.2.1/x onerror=alert(1)><link rel=stylesheet href=http://192.0.2.1/y>"
    "<meta http-equiv=refresh content='0; url=http://192.0.2.1/z'><iframe src=//192.0.2.1></iframe> \u202e" + "w" * 400
)
INJECTED = (
    "<script>document.body.dataset.broken = 1</script>"
    "<img src=http://192.0.2.1/x onerror='document.body.dataset.broken = 1'>"
    "<p id=injected style='color: rgb(1, 2, 3)' onclick='document.body.dataset.broken = 1'>x</p>"
)
# Seconds; generous, for a slow and busy machine. An ordinary one needs a tenth.
OPEN_LIMIT = 30
FILTER_LIMIT = 10

# The contrast of every visible text: its color against the background painted behind it.
CONTRAST = """(() => {
  const parse = (color) => { const n = color.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => {
    v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) {
    const color = parse(getComputedStyle(e).backgroundColor); if (color[3] === 1) return color; }
    return [255, 255, 255, 1]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script, .sr-only")) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, `${element.tagName}.${element.className}: ${node.data.trim().slice(0, 30)}`]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 5).concat([[found.length, "texts"]]);
})()"""

SMALL_TARGETS = """[...document.querySelectorAll("a.mark, button, select, summary, input[type=search]")].filter((e) => {
  const box = e.getBoundingClientRect();
  return e.checkVisibility() && (box.width < 24 || box.height < 24);
}).map((e) => e.outerHTML.slice(0, 100))"""

EXPANDED = "document.activeElement.ariaExpanded"
FOCUSED = "(document.activeElement.id || document.activeElement.name || document.activeElement.tagName)"


def mixed_run(root: Path) -> list:
    """Return a small run with every kind of content, and hostile text in each place."""
    write_logs(root / "hostile", HOSTILE, HOSTILE)
    task = f"tb2/{HOSTILE[:200]}"
    results = [full_result(HOSTILE, root / "hostile", task=task, agent=agent) for agent in ("claude", "codex")]
    results += long_run(12, 3, root)
    results += [
        result_of(f"tb2/{word}", agent="codex") for word in ("serve-something-long-0000", "train-something-long-0001")
    ]
    results += [result_of("tb2/confirmed", "failed"), result_of("tb2/confirmed", confirmation=1, node_id="c")]
    return [*results, result_of("tb2/not-for-us", "skipped", reason="Windows is not supported", phases={})]


@pytest.fixture
def page(tmp_path):
    program = find()
    if program is None:
        reason = f"no Chromium in PATH ({os.environ.get('PATH')}); Debian: apt-get install chromium"
        if os.environ.get("HARBOR_REQUIRE_ENGINE") == "1":
            pytest.fail(f"HARBOR_REQUIRE_ENGINE=1 and {reason}")
        pytest.skip(reason)
    with chromium(program, tmp_path / "profile") as page:
        yield page


@pytest.mark.slow
def test_the_page_in_chromium(page, tmp_path):
    results = mixed_run(tmp_path / "run")
    file = tmp_path / "report.html"
    runs = [agent_runs(StoredRun(name, tmp_path / name / RESULTS, "", results)) for name in (HOSTILE, "now")]
    histories = list(zip(*runs, strict=True))
    write(file, results, verdict=verdict_on(results), title="Nightly", rerun=command_of, histories=histories)
    page.look()
    page.open(file)
    check_filter(page)
    page.open(file)
    check_sorting(page)
    check_copying(page)
    check_times(page)
    page.open(file)
    check_keyboard(page)
    check_links(page)
    page.run("document.getElementById('open').click()")
    check_accessible_names(page)
    check_structure(page)
    for scheme in ("light", "dark"):
        page.look(scheme=scheme)
        check_contrast(page)
    for width in (360, 320):
        page.look(width=width, height=740)
        check_fits(page, width)
    page.look(medium="print")
    check_print(page)
    check_no_script_and_no_request(page, file)
    page.look()
    check_injected_markup(page, file)
    check_without_script(page, file)
    thousand = tmp_path / "thousand.html"
    results = long_run(334, 3, tmp_path / "thousand")
    write(thousand, results, verdict=verdict_on(results))
    check_thousand(page, thousand)


def command_of(result) -> str:
    return f"pytest 'tb2/x/task.toml::{result.attempt}'  --harbor-agent-command='<b>  two\nlines'"


def shown(page: Page) -> str:
    return page.run("document.getElementById('shown').textContent")


def enter(page: Page, words: str) -> str:
    page.run("document.getElementById('search').select(); document.getElementById('search').focus()")
    page.press(words)
    return shown(page)


def check_filter(page: Page) -> None:
    assert shown(page) == "43 of 43 trials shown"
    assert enter(page, "needle7") == "1 of 43 trials shown", "logs are searched"
    assert page.run("document.querySelectorAll('.grid tbody tr:not([hidden])').length") == 1
    assert enter(page, "ROWS serve") == shown(page) != "43 of 43 trials shown", "matches all words, ignoring case"
    assert enter(page, "nowhere-to-be-found") == "0 of 43 trials shown"
    assert page.run("document.getElementById('no-match').checkVisibility()")
    page.run("document.getElementById('search').value = ''; document.querySelector('[value=passed]').click()")
    assert page.run("document.querySelectorAll('.trial:not([hidden])[data-outcome=passed]').length") == 0
    page.run("document.querySelector('[value=passed]').click()")
    for control, value, fits in (
        ("by-agent", "codex", "trial.dataset.agent === 'codex'"),
        (
            "by-reason",
            "AssertionError: assert 'a,b' == 'a,c'",
            "trial.querySelector('.what')?.textContent.startsWith('Assert')",
        ),
        ("by-kind", "worse", "trial.dataset.kind?.includes('worse')"),
        ("by-kind", "flaky", "trial.dataset.kind?.includes('flaky')"),
    ):
        choose(page, control, value)
        assert page.run(f"[...document.querySelectorAll('.trial')].every((trial) => trial.hidden !== !!({fits}))")
        assert not shown(page).startswith("0 ")
        choose(page, control, "")
    assert shown(page) == "43 of 43 trials shown"


def check_sorting(page: Page) -> None:
    """Check that columns are sorted with the keyboard, both ways, and say so."""
    tasks = "[...document.querySelectorAll('.trial')].map((trial) => trial.querySelector('.toggle').textContent)"
    rewards = "[...document.querySelectorAll('.trial .c-reward')].map((cell) => cell.dataset.value)"
    directions = "[...document.querySelectorAll('.trials thead th')].map((head) => head.ariaSort).filter(Boolean)"
    assert page.run(directions) == ["ascending"]
    assert page.run("document.querySelector('.trial').dataset.outcome") == "failed", "what failed is first"
    press_head(page, "task")
    assert page.run(tasks) == sorted(page.run(tasks))
    press_head(page, "task")
    assert page.run(tasks) == sorted(page.run(tasks), reverse=True)
    assert page.run(directions) == ["descending"]
    for direction in (1, -1):
        press_head(page, "reward")
        found = [float(value) for value in page.run(rewards) if value]
        assert found == sorted(found, reverse=direction < 0)
        assert page.run(rewards)[-1] == "", "without a reward, a trial comes last"


def press_head(page: Page, column: str) -> None:
    page.run(f"document.querySelector('.trials thead .c-{column} button').focus()")
    page.press("Enter")


def check_copying(page: Page) -> None:
    """Check that a command is copied as it is, with the browser's clipboard and without."""
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    copy = "document.querySelector('.trial:has(#trial-3-more) .copy')"
    page.run("location.hash = 'trial-3'")
    page.settle()
    for breaking in ("", "navigator.clipboard.writeText = () => Promise.reject()"):
        page.run(breaking)
        page.run(f"{copy}.focus()")
        page.press("Enter")
        page.run("new Promise((done) => setTimeout(done, 50))")
        assert page.run(f"{copy}.textContent") == "Copied"
        command = page.run(f"{copy}.parentElement.querySelector('code').textContent")
        assert command.startswith("pytest 'tb2/")
        assert page.run("navigator.clipboard.readText()") == command


def check_times(page: Page) -> None:
    assert re.fullmatch(r"Nov \d+, 2026, \d+:00\s[AP]M", page.run("document.querySelector('#totals time').textContent"))


def choose(page: Page, control: str, value: str) -> None:
    page.run(
        f"(() => {{ const control = document.getElementById('{control}'); control.value = {json.dumps(value)};"
        "control.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def check_keyboard(page: Page) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Skip to the trials"
    assert page.run("document.activeElement.getBoundingClientRect().left >= 0"), "visible when focused"
    tab_to(page, "document.activeElement.id === 'search'")
    page.press("needle7")
    assert shown(page) == "1 of 43 trials shown"
    page.press("Enter")
    assert page.run("location.search") == "", "Enter does not submit the form"
    page.press("Escape")
    page.run("document.getElementById('search').value = ''")
    page.press("Tab", " ")
    assert page.run("document.querySelector('[value=passed]').checked") is False
    assert "43 of" not in shown(page)
    page.press(" ")
    assert shown(page) == "43 of 43 trials shown"
    tab_to(page, "document.activeElement.id === 'close'")
    tab_to(page, "document.activeElement.matches('.mark.failed')", 120)
    page.press("Enter")
    page.settle()
    page.run("getSelection().selectAllChildren(document.querySelector('.row'))")
    opened = f"{EXPANDED} === 'true' && document.activeElement.closest('.trial').querySelector('pre').checkVisibility()"
    assert page.run("document.activeElement.className") == "toggle"
    assert page.run(opened) is True
    page.press("Enter")
    assert page.run(opened) is False
    page.press(" ")
    assert page.run(opened) is True
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"


def tab_to(page: Page, condition: str, most: int = 60) -> None:
    for _ in range(most):
        page.press("Tab")
        if page.run(condition):
            return
    raise AssertionError(f"{most} tabs do not lead to {condition}, but to {page.run(FOCUSED)}")


def check_links(page: Page) -> None:
    """Check that a link opens its trial, even if the filter has hidden it, and a second time."""
    enter(page, "needle1")
    for _ in range(2):
        page.run("document.getElementById('close').click()")
        target = page.run("document.querySelector('.trial[data-outcome=error]').id")
        page.run(f"document.querySelector('.grid a[href=\"#{target}\"]').click()")
        page.run("new Promise((done) => setTimeout(done, 50))")
        page.settle()
        assert page.run(f"document.getElementById('{target}').querySelector('.toggle').ariaExpanded") == "true"
        assert page.run(f"document.getElementById('{target}').getBoundingClientRect().top < innerHeight")
    enter(page, "x")
    page.run("document.getElementById('search').value = ''; document.getElementById('filter').reset()")
    page.run("document.getElementById('search').dispatchEvent(new Event('input', {bubbles: true}))")
    assert shown(page) == "43 of 43 trials shown"


def check_accessible_names(page: Page) -> None:
    needs = ("link", "button", "searchbox", "checkbox", "combobox", "heading", "region", "table", "form")
    needs += ("search", "navigation", "group", "columnheader", "rowheader", "image")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in set(needs) - {"group"}
        and not node.get("name", {}).get("value", "").strip()
    ]
    assert nameless == []
    for role in ("banner", "main", "navigation", "search", "status", "table", "columnheader", "rowheader"):
        assert role in roles, f"nothing has the role {role}"
    assert roles.count("main") == roles.count("banner") == 1
    assert page.run("document.documentElement.lang") == "en"
    names = [node["name"]["value"] for node in nodes if not node["ignored"] and node["role"]["value"] == "link"]
    assert any("attempt 2: failed, reward 0.25" in name for name in names)


def check_structure(page: Page) -> None:
    levels = page.run("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no heading level is skipped"
    ids = page.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    for element in page.run(
        "[...document.querySelectorAll('[aria-labelledby]')].map((e) => e.ariaLabelledByElements.length)"
    ):
        assert element == 1
    assert page.run(SMALL_TARGETS) == []


def check_contrast(page: Page) -> None:
    *worst, (texts, _) = page.run(CONTRAST)
    assert texts > 500
    assert worst[0][0] >= 4.5, worst


def check_fits(page: Page, width: int) -> None:
    page.settle()
    assert page.run("document.documentElement.scrollWidth") <= width
    too_wide = page.run(
        "[...document.querySelectorAll('body *')]"
        ".filter((e) => e.checkVisibility() && !e.closest('.wide, .sr-only, svg'))"
        f".filter((e) => e.getBoundingClientRect().right > {width} + 1).map((e) => e.outerHTML.slice(0, 200))"
    )
    assert too_wide == []
    assert page.run(SMALL_TARGETS) == []


def check_print(page: Page) -> None:
    assert not page.run("document.getElementById('filter').checkVisibility()")
    assert page.run("getComputedStyle(document.body).color") == "rgb(31, 28, 25)", (
        "dark text on paper, whatever the screen uses"
    )
    assert page.send("Page.printToPDF")["data"]


def check_no_script_and_no_request(page: Page, file: Path) -> None:
    assert page.run("document.body.dataset.broken") is None
    asked = [what["request"]["url"] for method, what in page.events if method == "Network.requestWillBeSent"]
    assert {url.partition("#")[0] for url in asked} <= {file.as_uri(), "data:,"}
    events = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event for event in page.events if event[0] in events] == []


def check_injected_markup(page: Page, file: Path) -> None:
    """Check the second line of defense: injected markup can neither run nor request anything."""
    broken = file.with_name("broken.html")
    broken.write_text(file.read_text(encoding="utf-8").replace("<main>", f"<main>{INJECTED}"), encoding="utf-8")
    page.open(broken)
    page.run("document.getElementById('injected').click()")
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert page.run("document.body.dataset.broken") is None
    assert page.run("getComputedStyle(document.getElementById('injected')).color") != "rgb(1, 2, 3)"
    answered = [what["response"]["url"] for method, what in page.events if method == "Network.responseReceived"]
    assert {url for url in answered if url.startswith("http")} == set()
    blocked = [what["entry"]["text"] for method, what in page.events if method == "Log.entryAdded"]
    for directive in ("script-src", "style-src", "img-src"):
        assert any("Content Security Policy" in text and directive in text for text in blocked), directive


def check_without_script(page: Page, file: Path) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(file)
    assert page.run("document.getElementById('filter').checkVisibility()") is False
    assert (
        page.run("[...document.querySelectorAll('.inside')].filter((inside) => inside.checkVisibility()).length") == 43
    )
    page.send("Emulation.setScriptExecutionDisabled", value=False)


def check_thousand(page: Page, file: Path) -> None:
    took = page.open(file)
    page.settle()
    assert took < OPEN_LIMIT
    assert shown(page) == "1,002 of 1,002 trials shown"
    for words, expected in (("needle777", "1 of 1,002"), ("serve test_rows", "of 1,002"), ("zzz", "0 of 1,002")):
        began = time.monotonic()
        assert expected in enter(page, words)
        page.settle()
        assert time.monotonic() - began < FILTER_LIMIT
