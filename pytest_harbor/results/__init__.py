"""Results on disk."""

from pytest_harbor.results.merge import Merged, RunError, merge
from pytest_harbor.results.record import RECORD, RunRecord
from pytest_harbor.results.run import RESULTS, Run, read_results

__all__ = ["RECORD", "RESULTS", "Merged", "Run", "RunError", "RunRecord", "merge", "read_results"]
