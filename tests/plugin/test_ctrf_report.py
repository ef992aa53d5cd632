"""The report of pytest-json-ctrf, a third-party plugin that knows nothing about trials."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("ctrf")

SKIPPED = '[environment]\nos = "windows"\n'


@pytest.mark.parametrize("gate", [(), ("--harbor-gate=pass-rate=0.2",)], ids=["", "scored"])
def test_each_trial_is_counted_once(project, gate):
    project.rewards(good=1.0, bad=0.25, lost=None)
    project.task("tb2/skipped", SKIPPED)
    options = ["--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0", "--ctrf=ctrf.json", *gate]
    project.run(*options)
    report = json.loads((project.path / "ctrf.json").read_text())["results"]
    tests = {test["name"].rpartition("::")[2]: test for test in report["tests"]}
    bad = "passed" if gate else "failed"
    assert {name: test["status"] for name, test in tests.items()} == {
        "good": "passed",
        "bad": bad,
        "lost": "failed",
        "skipped": "skipped",
    }
    assert report["summary"]["tests"] == 4
    assert report["summary"]["skipped"] == 1
    assert report["summary"]["failed"] == (1 if gate else 2)
    assert "the container is gone" in tests["lost"]["message"]
    if not gate:
        assert "reward 0.25, needs 1" in tests["bad"]["message"]
    assert all(test["duration"] >= 0 for test in tests.values())
    assert tests["good"]["filePath"] == "tb2/good/task.toml"
