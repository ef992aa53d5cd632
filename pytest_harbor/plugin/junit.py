"""The verdict in pytest's own JUnit XML (`--junitxml`)."""

from __future__ import annotations

from _pytest.junitxml import xml_key

from pytest_harbor.gate import Verdict, confirmations_of, samples_of
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.report.junit import CLASS_NAME, NAME, verdict_case
from pytest_harbor.trial import TrialResult


def add_verdict(session: HarborSession, verdict: Verdict, results: list[TrialResult]) -> None:
    """Add the verdict as a test case, before pytest writes the file; nothing without `--junitxml`.

    It must not become a report to other plugins: to them, a verdict is not a test.
    """
    xml = session.config.stash.get(xml_key, None)
    if xml is None:
        return
    gate = session.gate
    case = verdict_case(
        verdict, samples_of(results), confirmations_of(results), gate.exit_status(verdict), gate.accepted_by
    )
    reporter = xml.node_reporter(f"{CLASS_NAME}::{NAME}")
    reporter.attrs.update(classname=".".join(filter(None, (xml.prefix, CLASS_NAME))), name=NAME)
    if (element := case.element()) is None:
        xml.add_stats("passed")
    else:
        reporter.append(element)
