"""One self-contained page of a run: no network, no asset beside it, nothing that an agent prints can run in it."""

from pytest_harbor.report.html.page import render, write

__all__ = ["render", "write"]
