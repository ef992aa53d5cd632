"""Results on disk."""

from pytest_harbor.results.run import Run, new_run_id, read_results

__all__ = ["Run", "new_run_id", "read_results"]
