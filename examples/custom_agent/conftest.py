"""An agent for each task: tasks about files go to a callable, all others to the agent of the command line.

A conftest.py beside or above the tests overrides a fixture of the plugin under its own name, and gets the
overridden one as its argument.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from callable_agent import solve


@pytest.fixture
def harbor_agent(harbor_task, harbor_agent):
    """Return the agent for one task: a callable, or whatever --harbor-agent chose."""
    if "files" in harbor_task.tags:
        return solve
    return harbor_agent
