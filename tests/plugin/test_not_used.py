"""A project that has the plugin installed but does not use it: no cost and no side effects."""

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


def test_unused_plugin_imports_nothing_heavy(plain):
    found = modules(plain)
    assert not found & set(HEAVY)
    names = (
        "options",
        "options.config",
        "options.parsers",
        "options.option",
        "options.table",
        "startup",
        "fixtures",
        "listener",
        "session",
        "options.suggestions",
        "options.without_effect",
        "places",
        "hookspecs",
    )
    light = {"pytest_harbor", "pytest_harbor.plugin", *(f"pytest_harbor.plugin.{name}" for name in names)}
    # These import nothing beyond the standard library.
    light |= {"pytest_harbor._util", *(f"pytest_harbor._util.{name}" for name in ("attempts", "choices", "text"))}
    assert ours(found) <= light


def test_collecting_tasks_does_not_import_docker(plain):
    found = modules(plain, "--harbor-dataset=tb2", "--collect-only", "-q")
    assert "pytest_harbor.task.task" in found
    assert not found & {"docker", "openai", "requests"}


@pytest.mark.parametrize("agent", ["nop", "openai"])
def test_openai_is_imported_only_when_needed(plain, monkeypatch, agent):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    outcome = plain.run(
        "--harbor-dataset=tb2",
        f"--harbor-agent={agent}",
        "--harbor-model=m",
        "--harbor-check-model=off",
        subprocess=True,
    )
    assert outcome.counts == {"errors": 1}
    assert "openai" not in json.loads((plain.path / "modules.json").read_text())


def test_plugin_imports_only_pytest_and_the_standard_library():
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_harbor.plugin\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'pytest_harbor'}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_package_imports_no_submodule():
    code = "import sys, pytest_harbor; print(sorted(n for n in sys.modules if n.startswith('pytest_harbor')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "['pytest_harbor']\n"


def test_public_names():
    import pytest_harbor

    for name in pytest_harbor.__all__:
        assert getattr(pytest_harbor, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_harbor.nothing
    assert {"Dataset", "Task", "run_trial"} <= set(pytest_harbor.__all__)


def test_disabled_plugin(plain):
    outcome = plain.run("-p", "no:harbor", subprocess=True)
    assert outcome.ret == 0
    assert outcome.counts == {"passed": 1}
    outcome.lacks("harbor-0")
    assert not ours(set(json.loads((plain.path / "modules.json").read_text()))) - {"pytest_harbor"}


def test_disabled_plugin_has_no_flags(plain):
    outcome = plain.run("-p", "no:harbor", "--harbor-dataset=tb2", subprocess=True)
    assert outcome.ret == 4
    outcome.has("unrecognized arguments")


def test_no_output_files_or_plugins(plain):
    outcome = plain.run("-v")
    outcome.lacks("harbor:", "harbor-results", "pass rate")
    assert not (plain.path / "harbor-results").exists()


def test_sigterm_handler_is_not_changed(plain):
    plain.file(
        "test_unit.py",
        "import signal\ndef test_one(): assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n",
    )
    assert plain.run(subprocess=True).counts == {"passed": 1}


def test_sigterm_handler_is_restored_after_a_run(plain):
    import signal

    before = signal.getsignal(signal.SIGTERM)
    plain.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert signal.getsignal(signal.SIGTERM) is before


def test_reports_of_other_tests_are_not_changed(plain):
    plain.file("test_unit.py", "def test_one(): assert 0\n")
    plain.task("tb3/odd", '[environment]\nos = "windows"\n')
    outcome = plain.run("--harbor-dataset=tb3", "--harbor-agent=nop", ".", "-v")
    outcome.has("test_unit.py::test_one FAILED", "assert 0")


def test_without_the_terminal_plugin(plain):
    plain.task("tb3/odd", '[environment]\nos = "windows"\n')
    for plugin in ("terminal", "junitxml", "cacheprovider", "capture", "logging", "stepwise", "python_path"):
        outcome = plain.run(
            "--harbor-dataset=tb3", "--harbor-agent=nop", "-p", f"no:{plugin}", subprocess=plugin == "capture"
        )
        assert outcome.ret == 0, f"{plugin}: {outcome}"
