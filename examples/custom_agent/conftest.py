"""A different agent for some tasks: a callable for tasks about files, the command line's agent for all others.

A conftest.py next to or above the tests overrides a fixture of the plugin by its name, and gets the original as
an argument.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from callable_agent import solve


@pytest.fixture
def harbor_agent(harbor_task, harbor_agent):
    """Return the agent for a task: a callable, or the one that --harbor-agent selects."""
    if "files" in harbor_task.tags:
        return solve
    return harbor_agent
