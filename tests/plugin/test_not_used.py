"""In a project that has the plugin installed and does not use it, it costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("docker", "pydantic", "openai", "requests", "filelock", "pathspec", "xdist.dsession")

CONFTEST = """
import json, sys

def pytest_unconfigure(config):
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)
"""


def modules(project, *args: str) -> set[str]:
    outcome = project.run(*args, "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:anyio", subprocess=True)
    assert outcome.ret == 0, str(outcome)
    return set(json.loads((project.path / "modules.json").read_text()))


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "pytest_harbor"}


@pytest.fixture
def plain(project):
    project.file("conftest.py", CONFTEST)
    project.file("test_unit.py", "def test_one(): pass\n")
    project.task("tb2/a")
    return project


def test_a_run_without_our_options_imports_nothing_heavy(plain):
    found = modules(plain)
    assert not found & set(HEAVY)
    names = (
        "options",
        "options.config",
        "options.parsers",
        "options.table",
        "startup",
        "fixtures",
        "session",
        "hookspecs",
    )
    assert ours(found) <= {"pytest_harbor", "pytest_harbor.plugin", *(f"pytest_harbor.plugin.{name}" for name in names)}


def test_collecting_tasks_imports_no_client_of_an_engine(plain):
    found = modules(plain, "--harbor-dataset=tb2", "--collect-only", "-q")
    assert "pytest_harbor.task.task" in found
    assert not found & {"docker", "openai", "requests"}


@pytest.mark.parametrize("agent", ["nop", "openai"])
def test_openai_is_imported_only_where_it_works(plain, agent):
    outcome = plain.run("--harbor-dataset=tb2", f"--harbor-agent={agent}", "--harbor-model=m", subprocess=True)
    assert outcome.counts == {"errors": 1}
    assert "openai" not in json.loads((plain.path / "modules.json").read_text())


def test_importing_the_plugin_needs_pytest_and_the_standard_library_only():
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_harbor.plugin\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'pytest_harbor'}))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_importing_the_package_imports_nothing_of_it():
    code = "import sys, pytest_harbor; print(sorted(n for n in sys.modules if n.startswith('pytest_harbor')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "['pytest_harbor']\n"


def test_public_names_are_there_when_asked_for():
    import pytest_harbor

    for name in pytest_harbor.__all__:
        assert getattr(pytest_harbor, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_harbor.nothing
    assert {"Dataset", "Task", "run_trial"} <= set(pytest_harbor.__all__)


def test_turned_off(plain):
    outcome = plain.run("-p", "no:harbor", subprocess=True)
    assert outcome.ret == 0
    assert outcome.counts == {"passed": 1}
    outcome.lacks("harbor-0")
    assert not ours(set(json.loads((plain.path / "modules.json").read_text()))) - {"pytest_harbor"}


def test_turned_off_its_flags_are_unknown(plain):
    outcome = plain.run("-p", "no:harbor", "--harbor-dataset=tb2", subprocess=True)
    assert outcome.ret == 4
    outcome.has("unrecognized arguments")


def test_nothing_is_printed_written_or_registered(plain):
    outcome = plain.run("-v")
    outcome.lacks("harbor:", "harbor-results", "pass rate")
    assert not (plain.path / "harbor-results").exists()


def test_a_handler_of_sigterm_is_left_alone(plain):
    plain.file(
        "test_unit.py",
        "import signal\ndef test_one(): assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n",
    )
    assert plain.run(subprocess=True).counts == {"passed": 1}


def test_a_handler_of_sigterm_is_put_back_after_a_run_of_ours(plain):
    import signal

    before = signal.getsignal(signal.SIGTERM)
    plain.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert signal.getsignal(signal.SIGTERM) is before


def test_reports_of_other_tests_are_left_alone(plain):
    plain.file("test_unit.py", "def test_one(): assert 0\n")
    plain.task("tb3/odd", '[environment]\nos = "windows"\n')
    outcome = plain.run("--harbor-dataset=tb3", "--harbor-agent=nop", ".", "-v")
    outcome.has("test_unit.py::test_one FAILED", "assert 0")


def test_without_terminal_and_other_plugins(plain):
    plain.task("tb3/odd", '[environment]\nos = "windows"\n')
    for plugin in ("terminal", "junitxml", "cacheprovider", "capture", "logging", "stepwise", "python_path"):
        outcome = plain.run(
            "--harbor-dataset=tb3", "--harbor-agent=nop", "-p", f"no:{plugin}", subprocess=plugin == "capture"
        )
        assert outcome.ret == 0, f"{plugin}: {outcome}"
