"""The verdict of a gate as a test case of JUnit XML, so that a CI server that reads nothing else knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from pytest_harbor._util.files import write_output
from pytest_harbor._util.text import printable
from pytest_harbor.gate import Key, Sample, Verdict
from pytest_harbor.report import verdict_text

CLASS_NAME = "harbor.gate"
NAME = "verdict"
SUITE = "pytest-harbor gate"

Result = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True)
class VerdictCase:
    """The test case.

    Attributes:
        result: `passed`, or the name of the element that says why it did not pass: `failure` for a regression, `error`
            if there is no answer, `skipped` if the exit status is 0 all the same.
        message: the verdict and its reasons, in one line.
        text: the verdict with all tasks that matter.

    """

    result: Result
    message: str
    text: str

    def element(self) -> ElementTree.Element | None:
        """Return the element that says why it did not pass; None if it did."""
        if self.result == "passed":
            return None
        tag: str = self.result
        element = ElementTree.Element(tag, message=self.message)
        element.text = self.text
        return element


def verdict_case(
    verdict: Verdict,
    run: Mapping[Key, Sample],
    confirmations: Mapping[Key, tuple[int, int]] | None,
    status: int,
    accepted_by: str,
) -> VerdictCase:
    """Return the test case of a verdict.

    Args:
        verdict: the verdict.
        run: the samples that were judged.
        confirmations: how many confirmations passed, and how many there were, for each task that newly failed.
        status: the exit status of the verdict.
        accepted_by: the option that makes the status 0 whatever the verdict.

    """
    text = printable("\n".join(verdict_text.lines(verdict, run, confirmations, every=True)))
    result: Result = "failure" if verdict.word == "regressed" else "error"
    word: str = verdict.word
    if not status:
        result = "passed" if word == "pass" else "skipped"
        word += f", accepted by {accepted_by}"
    return VerdictCase(result, printable(f"{word}: {'; '.join(verdict.reasons)}"), text)


def write(path: Path, case: VerdictCase) -> None:
    """Write a file with this test case alone.

    Raises:
        OSError: the file cannot be written.

    """
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {name: str(int(case.result == result)) for name, result in counted.items()}
    suites = ElementTree.Element("testsuites", name=SUITE)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": SUITE, "tests": "1", **counts})
    test = ElementTree.SubElement(suite, "testcase", classname=CLASS_NAME, name=NAME, time="0.000")
    if (element := case.element()) is not None:
        test.append(element)
    write_output(path, ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True))
