"""The results of runs on disk."""

from pytest_harbor.results.history import StoredRun, earlier_runs, find_runs, read_run
from pytest_harbor.results.merge import Merged, RunError, merge
from pytest_harbor.results.run import RESULTS, Run, read_results
from pytest_harbor.results.run_json import RUN_JSON, RunRecord

__all__ = [
    "RESULTS",
    "RUN_JSON",
    "Merged",
    "Run",
    "RunError",
    "RunRecord",
    "StoredRun",
    "earlier_runs",
    "find_runs",
    "merge",
    "read_results",
    "read_run",
]
