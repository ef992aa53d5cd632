"""Results on disk."""

from pytest_harbor.results.merge import Merged, RunError, merge
from pytest_harbor.results.run import RESULTS, Run, read_results
from pytest_harbor.results.run_json import RECORD, RunRecord

__all__ = ["RECORD", "RESULTS", "Merged", "Run", "RunError", "RunRecord", "merge", "read_results"]
