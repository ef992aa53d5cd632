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


# Jenkins' xUnit plugin (junit-10.xsd) refuses properties of a test case.
WITHOUT_PROPERTIES = {**ALLOWED, "testcase": (*ALLOWED["testcase"][:2], ALLOWED["testcase"][2][1:])}


def assert_strict(element, allowed=ALLOWED) -> None:
    must, may, within = allowed[element.tag]
    assert set(must) <= set(element.attrib) <= {*must, *may}, element.attrib
    places = [within.index(child.tag) for child in element]
    assert places == sorted(places), [child.tag for child in element]
    for name in ("skipped", *COUNTS):
        assert element.get(name, "0").isdigit()
    assert re.fullmatch(r"[0-9]+(\.[0-9]{1,3})?", element.get("time", "0"))
    for child in element:
        assert_strict(child, allowed)


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
    expected = ["11", "0", "2", "2"] if gate else ["10", "3", "1", "2"]
    assert [suite.get(name) for name in (*COUNTS, "skipped")] == expected
    found = {case.get("name"): case for case in suite.iter("testcase")}
    assert len(found) == int(expected[0])
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


# Without properties.


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_no_properties_for_strict_schemas(project, cases, family, workers):
    project.rewards(good=1.0, bad=0.25, lost=None)
    project.task("tb2/skipped", SKIPPED)
    options = ["-o", f"junit_family={family}", "--harbor-infra-retries=0", "--harbor-gate=each"]
    options += ["-n", "2"] if workers else []
    suite, found = cases("--harbor-junit-properties=off", *options, subprocess=workers)
    assert set(found) == {"good", "bad", "lost", "skipped", "verdict"}
    assert not list(suite.iter("property"))
    if family == "xunit2":
        assert_strict(suite, WITHOUT_PROPERTIES)


def test_a_users_own_properties_stay(project, cases):
    project.rewards(good=1.0)
    project.file(
        "test_own.py",
        "import pytest\n\n@pytest.mark.harbor(dataset='tb2')\n"
        "def test_own(harbor_trial, record_property):\n    record_property('mine', harbor_trial.reward)\n",
    )
    project.ini("harbor_junit_properties = off", "junit_family = xunit1")
    _, found = cases("test_own.py")
    (case,) = found.values()
    assert properties(case) == {"mine": "1.0"}


# The verdict.


def verdict_of(suite):
    """Return the verdict's test case, once the counts of the suite are those of its cases."""
    cases = list(suite.iter("testcase"))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == sum(case.find(tag) is not None for case in cases), attribute
    assert int(suite.get("tests")) == len(cases)
    (verdict,) = [case for case in cases if case.get("classname") == "harbor.gate"]
    assert verdict.get("name") == "verdict"
    return verdict


WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["", "workers"])


@WORKERS
def test_regressed_is_a_failure(project, cases, workers):
    project.rewards(good=1.0, bad=0.0)
    suite, _ = cases("--harbor-gate=each", *workers, subprocess=bool(workers))
    (failure,) = verdict_of(suite)
    assert failure.tag == "failure"
    assert failure.get("message") == "regressed: 1 of 2 trials did not pass; the rule requires each to pass"
    assert failure.text.startswith("verdict: regressed (rule each)\n")
    assert "tb2/bad  nop  0.00  0 of 1 passed" in failure.text


@WORKERS
def test_pass_passes(project, cases, workers):
    project.rewards(good=1.0, bad=0.0)
    suite, _ = cases("--harbor-gate=pass-rate=0.5", *workers, subprocess=bool(workers))
    assert len(verdict_of(suite)) == 0


@WORKERS
def test_run_that_is_not_judged_is_an_error(project, cases, workers):
    project.rewards(lost=None, good=1.0)
    suite, _ = cases("--harbor-gate=each", "--harbor-infra-retries=0", *workers, subprocess=bool(workers))
    (error,) = verdict_of(suite)
    assert error.tag == "error"
    assert error.get("message").startswith("not judged: 1 of 2 trials are infrastructure errors")


def test_accepted_verdict_is_skipped(project, cases):
    """It is neither red, as the exit status is 0, nor green, as it is no pass."""
    project.rewards(good=1.0, bad=0.0)
    update = ("--harbor-baseline=new.json", "--harbor-update-baseline")
    suite, _ = cases(*update)
    (skipped,) = verdict_of(suite)
    assert skipped.tag == "skipped"
    reason = "there is no baseline to compare with"
    assert skipped.get("message") == f"not judged, accepted by --harbor-update-baseline: {reason}"


def test_verdict_of_a_run_without_tasks(project, cases):
    project.rewards(a=1.0)
    project.file("test_unit.py", "def test_it(): pass")
    suite, _ = cases("test_unit.py", "--harbor-gate=each", "--harbor-task=a", "-k", "test_it")
    assert verdict_of(suite).find("error").get("message") == "not judged: no trial ran"


def test_stopped_run_is_an_error(project, cases):
    project.rewards(a=None, b=1.0)
    suite, _ = cases("--harbor-gate=each", "--harbor-infra-retries=0", "-x")
    assert verdict_of(suite).find("error").get("message").startswith("not judged: the run was stopped: ")


def test_no_verdict_no_case(project, cases):
    project.rewards(a=1.0, b=1.0)
    for options in ((), ("--harbor-gate=each", "--harbor-shard=1/2")):
        _, found = cases(*options)
        assert "verdict" not in found


def test_verdict_has_the_prefix_of_class_names(project, cases):
    project.rewards(a=1.0)
    _, found = cases("--harbor-gate=each", "--junitprefix=nightly")
    assert found["verdict"].get("classname") == "nightly.harbor.gate"


def test_other_reports_have_no_verdict(project):
    project.rewards(a=0.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-gate=each", "--junitxml=out.xml")
    assert outcome.counts == {"scored": 1}
