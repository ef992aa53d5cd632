"""--harbor-html: when the page is written, and what is reported."""

from __future__ import annotations

import pytest

SKIPPED = '[environment]\nos = "windows"\n'


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)])
def test_run_writes_a_page(project, workers):
    for name in "abc":
        project.task(f"tb2/{name}", SKIPPED)
    options = ["--harbor-dataset=tb2", "--harbor-agent=oracle", "--harbor-html=out/report.html", *workers]
    outcome = project.run(*options, subprocess=bool(workers))
    assert outcome.counts == {"skipped": 3}
    outcome.has("page: out/report.html")
    page = (project.path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('<article id="trial-') == 3
    assert "<title>Harbor run of tb2</title>" in page


def test_page_is_written_only_by_runs(project):
    project.task("tb2/a", SKIPPED)
    project.ini("harbor_html = report.html")
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run("--harbor-dataset=tb2", "--collect-only").ret == 0
    assert project.run("test_unit.py").ret == 0
    assert not (project.path / "report.html").exists()


def test_directory_is_a_usage_error(project):
    project.task("tb2/a", SKIPPED)
    (project.path / "out").mkdir()
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=oracle", "--harbor-html=out")
    assert outcome.ret == 4
    outcome.has("ERROR: --harbor-html: ", "out is a directory; give the path of a file to write")
    outcome.shows_no_bug()


def test_page_that_cannot_be_written(project):
    project.task("tb2/a", SKIPPED)
    project.file("out", "no directory\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=oracle", "--harbor-html=out/report.html")
    assert outcome.counts == {"skipped": 1}
    assert outcome.ret == 0
    outcome.has("out/report.html cannot be written: ", "results: ")
    outcome.shows_no_bug()
