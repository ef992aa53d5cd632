"""--harbor-html: where the page is written, and what is reported."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest

SKIPPED = '[environment]\nos = "windows"\n'


def page_text(project) -> str:
    """Return the page of the only run."""
    (page,) = project.path.glob("harbor-results/*/report.html")
    return page.read_text(encoding="utf-8")


def last_line(outcome) -> str:
    """Return the last line of the plugin's section."""
    lines = outcome.out.splitlines()
    start = next(number for number, line in enumerate(lines) if re.fullmatch("=+ harbor =+", line))
    end = next(number for number, line in enumerate(lines) if number > start and line.startswith(("===", "!!!")))
    return lines[end - 1]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)])
def test_each_run_writes_a_page_and_ends_with_its_path(project, workers):
    project.rewards(a=1.0, b=0.0, c=1.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *workers, subprocess=bool(workers))
    assert outcome.counts == {"passed": 2, "failed": 1}
    page = page_text(project)
    assert page.count('<tbody id="trial-') == 3
    assert "<title>1 of 3 tasks failed: tb2 with nop</title>" in page
    path = last_line(outcome).removeprefix("page: ")
    assert re.fullmatch("harbor-results/[^/]+/report.html", path)
    assert (project.path / path).is_file()


@pytest.mark.parametrize("ini, flags", [("", ["--harbor-html=off"]), ("harbor_html = off", [])])
def test_off_writes_no_page(project, ini, flags):
    project.ini(ini)
    project.rewards(a=1.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *flags)
    outcome.lacks("page: ")
    assert list(project.path.rglob("*.html")) == []


BROKEN_AFTER_A_TEST = """
def pytest_runtest_logfinish(nodeid):
    raise ZeroDivisionError("a bug of a conftest.py")
"""


@pytest.mark.parametrize("ending", ["no terminal", "internal error"])
def test_page_is_written_if_pytest_asks_for_no_summary(project, ending):
    project.rewards(a=0.0)
    if ending == "internal error":
        conftest = project.path / "conftest.py"
        conftest.write_text(conftest.read_text() + BROKEN_AFTER_A_TEST)
    words = ("-p", "no:terminal") if ending == "no terminal" else ()
    assert project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *words).ret != 0
    assert page_text(project).count('<tbody id="trial-') == 1


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)])
def test_page_shows_earlier_runs(project, workers):
    project.rewards(a=1.0, b=1.0)
    for reward in (1.0, 0.0, 0.0):
        project.file("rewards.json", json.dumps({"a": reward, "b": 1.0}))
        run = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-html=report.html", *workers)
        project.run(*run, subprocess=bool(workers))
        # Ids of runs sort by seconds, and these runs take less.
        for number, directory in enumerate(sorted(project.path.glob("harbor-results/????-*-????"))):
            directory.rename(directory.with_name(f"2026-01-01T00-00-0{number}Z-0000"))
        if reward:
            assert 'id="history"' not in (project.path / "report.html").read_text(encoding="utf-8")
    page = (project.path / "report.html").read_text(encoding="utf-8")
    assert "Mean reward in 3 runs: first 1.00, lowest 0.50, highest 1.00, now 0.50" in page
    assert "nop: 2 earlier runs" in page


def test_another_file(project):
    project.task("tb2/a", SKIPPED)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-html=out/report.html")
    assert last_line(outcome) == "page: out/report.html"
    assert "1 task skipped" in (project.path / "out" / "report.html").read_text(encoding="utf-8")
    assert list(project.path.glob("harbor-results/*/report.html")) == []


def test_page_is_written_only_by_runs_of_tasks(project):
    project.task("tb2/a", SKIPPED)
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run("--harbor-dataset=tb2", "--collect-only").ret == 0
    assert project.run("test_unit.py").ret == 0
    assert list(project.path.rglob("*.html")) == []


def test_interrupted_run_writes_a_page(project):
    project.rewards(a=1.0)
    project.file("test_later.py", "def test_stop():\n    raise KeyboardInterrupt\n")
    outcome = project.run(
        "tb2/a/task.toml", "test_later.py", "--harbor-dataset=tb2", "--harbor-agent=nop", subprocess=True
    )
    assert outcome.ret == 2
    assert last_line(outcome).startswith("page: harbor-results/")
    assert "1 task passed, stopped early" in page_text(project)


def test_run_that_stops_early_says_what_did_not_run(project):
    project.rewards(a=1.0, b=0.0, c=1.0, d=1.0)
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-exclude-task=d", "-x")
    page = page_text(project)
    assert "<title>1 of 2 tasks failed, stopped early: tb2 with nop</title>" in page
    assert "1 task did not run: tb2/c</p>" in page


def test_directory_is_a_usage_error(project):
    project.task("tb2/a", SKIPPED)
    (project.path / "out").mkdir()
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-html=out")
    assert outcome.ret == 4
    outcome.has("ERROR: --harbor-html: ", "out is a directory; give the path of a file to write")
    outcome.shows_no_bug()


def test_page_that_cannot_be_written(project):
    project.task("tb2/a", SKIPPED)
    project.file("out", "no directory\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-html=out/report.html")
    assert outcome.ret == 4
    outcome.has("--harbor-html: ", "out/report.html cannot be written: Not a directory; give another path")
    outcome.shows_no_bug()


# The command that reruns a trial.


def commands(project) -> list[list[str]]:
    """Return the words of the commands on the page."""
    found = re.findall(r'aria-label="Command that reruns this">(.*?)</code>', page_text(project))
    # The project's runs turn off plugins.
    return [shlex.split(re.sub(r" -p no:(?!randomly)\S+", "", html.unescape(command))) for command in found]


def test_the_command_on_the_page_reruns_the_trial(project):
    project.rewards(a=[1.0, 0.0], b=1.0)
    options = ("--harbor-dataset=tb2", "--harbor-agent-command=echo 'it  runs'; true", "--harbor-attempts=2")
    project.run(*options, "--harbor-task=a", "--harbor-save-baseline=base.json", "-p", "no:randomly")
    command, other = commands(project)
    assert command == [
        "pytest",
        "tb2/a/task.toml::a[2]",
        "--harbor-agent-command=echo 'it  runs'; true",
        "--harbor-attempts=2",
        *("-p", "no:randomly"),
    ]
    # The first attempt has no label, so its node id would also name the others.
    assert other[1:3] == ["tb2/a/task.toml::a", "--harbor-agent-command=echo 'it  runs'; true"]
    assert project.run(*other[1:], "--harbor-html=off").counts == {"passed": 1}
    outcome = project.run(*command[1:], "--harbor-html=off")
    assert outcome.counts == {"failed": 1}
    outcome.has("tb2/a/task.toml::a[2]")


def test_the_command_starts_where_the_run_started(project, monkeypatch):
    project.ini()
    project.rewards(a=1.0)
    (project.path / "sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    project.run("--harbor-dataset=../tb2", "--harbor-agent=nop", "--harbor-results=../harbor-results")
    ((_, node_id, *_),) = commands(project)
    assert node_id == "../tb2/a/task.toml::a"


def test_the_command_of_a_test_names_its_dataset(project):
    project.rewards(a=1.0)
    project.file("test_mine.py", "import pytest\n@pytest.mark.harbor\ndef test_it(harbor_trial):\n    pass\n")
    project.run("test_mine.py", "--harbor-dataset=tb2", "--harbor-agent=nop")
    assert commands(project) == [["pytest", "test_mine.py::test_it[a]", "--harbor-dataset=tb2", "--harbor-agent=nop"]]


def test_the_page_holds_no_secrets(project, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "token-0123456789")
    project.rewards(a=1.0)
    line = "API_KEY={} agent --auth {} --url http://{}@host/ --max-tokens=12345678"
    project.run(
        "--harbor-dataset=tb2",
        f"--harbor-agent-command={line.format('sk-abcdefgh', 'token-0123456789', 'me:pass')}",
        "--harbor-agent-env=SOME=hidden-value",
    )
    page = page_text(project)
    for secret in ("sk-abcdefgh", "token-0123456789", "me:pass", "hidden-value"):
        assert secret not in page
    ((*_, command, environment),) = commands(project)
    assert (
        command
        == "--harbor-agent-command=API_KEY=*** agent --auth <MY_TOKEN> --url http://***@host/ --max-tokens=12345678"
    )
    assert environment == "--harbor-agent-env=SOME"
