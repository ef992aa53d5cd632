"""A self-contained HTML page of a run: no network, no other files, and no output of an agent can run in it."""

from pytest_harbor.report.html.page import render, write

__all__ = ["render", "write"]
