"""JUnit XML, as a CI server reads it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

SKIPPED = '[environment]\nos = "windows"\n'


@pytest.fixture
def cases(project):
    def run(*args: str, subprocess: bool = False):
        project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--junitxml=out.xml", *args, subprocess=subprocess)
        suite = ElementTree.parse(project.path / "out.xml").getroot().find("testsuite")
        return suite, {case.get("name"): case for case in suite.iter("testcase")}

    return run


def properties(case) -> dict[str, str]:
    return {entry.get("name"): entry.get("value") for entry in case.iter("property")}


@pytest.mark.parametrize("workers", [False, True])
def test_an_engine_that_is_away_is_an_error_element(project, cases, workers):
    project.task("tb2/a")
    suite, found = cases(*(["-n", "2"] if workers else []), subprocess=workers)
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "0", "1")
    error = found["a"].find("error")
    assert "tb2/a [build] no Docker Engine answers" in error.get("message")
    assert "Logs: " in error.text
    assert "Traceback" not in error.text


@pytest.mark.parametrize("workers", [False, True])
def test_properties_of_a_trial(project, cases, workers):
    project.task("tb2/a")
    _, found = cases("--harbor-attempts=2", *(["-n", "2"] if workers else []), subprocess=workers)
    assert set(found) == {"a", "a[2]"}
    for attempt, name in enumerate(("a", "a[2]"), 1):
        told = properties(found[name])
        assert told["harbor_task"] == "tb2/a"
        assert told["harbor_agent"] == "nop"
        assert told["harbor_attempt"] == str(attempt)
        assert told["harbor_outcome"] == "error"
        assert "harbor_seconds_build" in told
        assert "harbor_reward" not in told
        assert told["harbor_directory"].startswith(str(project.path))
        assert len(list(found[name].iter("property"))) == len(told), "each property once"


def test_a_skip_has_its_reason_and_properties(project, cases):
    project.task("tb2/a", SKIPPED)
    suite, found = cases()
    assert suite.get("skipped") == "1"
    assert "windows environments are not supported" in found["a"].find("skipped").get("message")
    assert properties(found["a"])["harbor_outcome"] == "skipped"


def test_a_broken_task_is_an_error_element(project, cases):
    project.task("tb2/a", "= =")
    _, found = cases()
    assert "task.toml: line 1, column 1" in found["a"].find("error").get("message")


def test_the_class_name_tells_the_task_from_others_of_its_name(project, cases):
    project.task("tb2/x/same")
    project.task("tb2/y/same")
    suite, _ = cases()
    names = {(case.get("classname"), case.get("name")) for case in suite.iter("testcase")}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "a\x08b", "\u65e5\u672c", "<&>\"'"])
def test_names_that_xml_cannot_hold(project, cases, name):
    project.task(f"tb2/{name}", '[agent]\ntimeout_sec = "\\u001b[2J\\u0000"\n')
    suite, found = cases()
    assert len(found) == 1
    assert suite.get("errors") == "1"


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_both_families(project, cases, family):
    project.task("tb2/a")
    _, found = cases("-o", f"junit_family={family}")
    assert found["a"].find("error") is not None
