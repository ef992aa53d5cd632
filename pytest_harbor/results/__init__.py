"""Results on disk."""

from pytest_harbor.results.record import RECORD, RunRecord
from pytest_harbor.results.run import RESULTS, Run, read_results

__all__ = ["RECORD", "RESULTS", "Run", "RunRecord", "read_results"]
