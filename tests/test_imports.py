"""The import graph; import-linter checks the layers (see pyproject.toml)."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def find_cycle(graph: grimp.ImportGraph) -> list[str]:
    """Return the modules of an import cycle, or an empty list."""
    sorter = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture
def graph() -> grimp.ImportGraph:
    # Imports inside functions and under TYPE_CHECKING count.
    return grimp.build_graph("pytest_harbor", cache_dir=None, exclude_type_checking_imports=False)


def test_there_is_no_import_cycle(graph):
    assert find_cycle(graph) == []


def test_a_cycle_would_be_found(graph):
    graph.add_import(importer="pytest_harbor.errors", imported="pytest_harbor.trial.trial")
    assert "pytest_harbor.errors" in find_cycle(graph)
