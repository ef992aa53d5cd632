"""Byte counts in readable units."""

from __future__ import annotations

from pytest_harbor._util.text import plural


def size_text(count: int) -> str:
    """Format a number of bytes: "1 byte", "64 MiB", "1.5 GiB"."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.10g} {name}" if count % unit == 0 else f"{count / unit:.1f} {name}"
    return plural(count, "byte")
