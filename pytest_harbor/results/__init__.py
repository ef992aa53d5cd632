"""Results on disk."""

from pytest_harbor.results.run import RESULTS, Run, new_run_id, read_results

__all__ = ["RESULTS", "Run", "new_run_id", "read_results"]
