"""placeholder until G3's."""

from __future__ import annotations

from pytest_harbor.gate import Verdict


def lines(verdict: Verdict) -> list[str]:
    """Return the verdict."""
    return [f"verdict: {verdict.word}", *verdict.reasons]
