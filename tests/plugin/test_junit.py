"""JUnit XML reports for CI servers."""

from __future__ import annotations

import re
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
def test_missing_engine_is_an_error_element(project, cases, workers):
    project.task("tb2/a")
    suite, found = cases(*(["-n", "2"] if workers else []), subprocess=workers)
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "0", "1")
    error = found["a"].find("error")
    fact = "looking for image python:3.11-slim: the Docker Engine does not answer"
    assert fact in error.get("message")
    assert f"tb2/a [build] {fact}" in error.text
    assert "Logs: " in error.text
    assert "Traceback" not in error.text


@pytest.mark.parametrize("workers", [False, True])
def test_properties_of_a_trial(project, cases, workers):
    project.task("tb2/a")
    _, found = cases("--harbor-attempts=2", *(["-n", "2"] if workers else []), subprocess=workers)
    assert set(found) == {"a", "a[2]"}
    for attempt, name in enumerate(("a", "a[2]"), 1):
        values = properties(found[name])
        assert values["harbor_task"] == "tb2/a"
        assert values["harbor_agent"] == "nop"
        assert values["harbor_attempt"] == str(attempt)
        assert values["harbor_outcome"] == "error"
        assert "harbor_seconds_build" in values
        assert "harbor_reward" not in values
        assert values["harbor_directory"].startswith(str(project.path))
        assert len(list(found[name].iter("property"))) == len(values), "each property once"


def test_skip_has_reason_and_properties(project, cases):
    project.task("tb2/a", SKIPPED)
    suite, found = cases()
    assert suite.get("skipped") == "1"
    assert "windows environments are not supported" in found["a"].find("skipped").get("message")
    assert properties(found["a"])["harbor_outcome"] == "skipped"


def test_broken_task_is_an_error_element(project, cases):
    project.task("tb2/a", "= =")
    _, found = cases()
    assert "task.toml: line 1, column 1" in found["a"].find("error").get("message")


def test_class_name_contains_the_dataset(project, cases):
    project.task("tb2/x/same")
    project.task("tb2/y/same")
    suite, _ = cases()
    names = {(case.get("classname"), case.get("name")) for case in suite.iter("testcase")}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "a\x08b", "\u65e5\u672c", "<&>\"'"])
def test_names_with_characters_invalid_in_xml(project, cases, name):
    project.task(f"tb2/{name}", '[agent]\ntimeout_sec = "\\u001b[2J\\u0000"\n')
    suite, found = cases()
    assert len(found) == 1
    assert suite.get("errors") == "1"


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_junit_families(project, cases, family):
    project.task("tb2/a")
    _, found = cases("-o", f"junit_family={family}")
    assert found["a"].find("error") is not None


# What strict schemas of CI servers, such as Jenkins, agree on: attributes (required ones first)
# and child elements in order. Properties of a test case are an addition of pytest.
COUNTS = ("tests", "failures", "errors")
ALLOWED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "testsuites": ((), ("name", "time", *COUNTS), ("testsuite",)),
    "testsuite": (
        ("name", *COUNTS),
        ("time", "skipped", "timestamp", "hostname", "id", "package"),
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "testcase": (
        ("name",),
        ("time", "classname"),
        ("properties", "skipped", "error", "failure", "system-out", "system-err"),
    ),
    "properties": ((), (), ("property",)),
    "property": (("name", "value"), (), ()),
    "skipped": ((), ("type", "message"), ()),
    "error": ((), ("type", "message"), ()),
    "failure": ((), ("type", "message"), ()),
    "system-out": ((), (), ()),
    "system-err": ((), (), ()),
}


def assert_strict(element) -> None:
    must, may, within = ALLOWED[element.tag]
    assert set(must) <= set(element.attrib) <= {*must, *may}, element.attrib
    places = [within.index(child.tag) for child in element]
    assert places == sorted(places), [child.tag for child in element]
    for name in ("skipped", *COUNTS):
        assert element.get(name, "0").isdigit()
    assert re.fullmatch(r"[0-9]+(\.[0-9]{1,3})?", element.get("time", "0"))
    for child in element:
        assert_strict(child)


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("gate", [(), ("--harbor-gate=pass-rate=0.2",)], ids=["", "scored"])
def test_strict_schema(project, workers, gate):
    project.rewards(good=1.0, bad=0.25, flaky=[1.0, 0.0], lost=[1.0, None])
    project.task("tb2/skipped", SKIPPED)
    options = ["--harbor-attempts=2", "--harbor-infra-retries=0", "--junitxml=out.xml", *gate]
    options += ["-n", "2"] if workers else []
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *options, subprocess=workers)
    root = ElementTree.parse(project.path / "out.xml").getroot()
    assert_strict(root)
    (suite,) = root
    failures = "0" if gate else "3"
    assert [suite.get(name) for name in (*COUNTS, "skipped")] == ["10", failures, "1", "2"]
    found = {case.get("name"): case for case in suite.iter("testcase")}
    assert len(found) == 10
    assert properties(found["good"])["harbor_reward"] == "1.0"
    assert properties(found["flaky[2]"])["harbor_reward"] == "0.0"
    values = properties(found["bad"])
    assert (values["harbor_reward"], values["harbor_outcome"], values["harbor_metric_rows"]) == (
        "0.25",
        "failed",
        "7.0",
    )
    assert "harbor_seconds_verify" in values
    assert (found["bad"].find("failure") is None) == bool(gate)
    assert "the container is gone" in found["lost[2]"].find("error").get("message")
    assert "harbor_reward" not in properties(found["lost[2]"])


def test_usage_properties(project, cases):
    project.rewards(dear=1.0, odd=0.0, free=1.0)
    tokens = {"input_tokens": 12_000, "cached_tokens": 8_000, "output_tokens": 345, "reasoning_tokens": 100}
    project.usage(
        dear={"requests": 3, **tokens, "cost": 0.042},
        odd={"requests": 3, "cost": None, "budget": "--harbor-max-turns=3 is spent"},
    )
    _, found = cases()
    values = properties(found["dear"])
    assert {name: values[f"harbor_{name}"] for name in ("calls", *tokens, "cost")} == {
        "calls": "3",
        **{name: str(number) for name, number in tokens.items()},
        "cost": "0.042",
    }
    assert "harbor_budget" not in values
    odd = properties(found["odd"])
    assert odd["harbor_calls"] == "3"
    assert "harbor_cost" not in odd
    assert odd["harbor_budget"] == "--harbor-max-turns=3 is spent"
    assert "--harbor-max-turns=3 is spent" in found["odd"].find("failure").get("message")
    assert not {"harbor_calls", "harbor_cost", "harbor_budget"} & set(properties(found["free"]))
