"""Results on disk."""

from pytest_harbor.results.run import RESULTS, Run, read_results

__all__ = ["RESULTS", "Run", "read_results"]
