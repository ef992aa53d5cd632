"""Deadlines of any length, for clocks and waits that overflow."""

from __future__ import annotations

# Three years: more than any run lasts, and less than what Python and the kernel can wait for.
LONGEST = 1e8


def bounded(seconds: float) -> float:
    """Return a number of seconds that every wait accepts, which may be infinite before."""
    return min(seconds, LONGEST)
