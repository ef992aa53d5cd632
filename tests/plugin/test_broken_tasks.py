"""Broken, unusual and unsupported tasks: each is reported on its own, and the others run."""

from __future__ import annotations

import pytest

from pytest_harbor.task import task as task_module

BROKEN = {
    "toml": ({"toml": 'name = "x"\nversion = = 1\n'}, "task.toml: line 2, column 11: "),
    "toml_end": ({"toml": 'name = "x'}, "task.toml: line 1, column 10: "),
    "type": (
        {"toml": '[agent]\ntimeout_sec = "soon"\n'},
        'task.toml: [agent] timeout_sec: must be a number, got "soon"',
    ),
    "table": ({"toml": "agent = 3\n"}, "task.toml: agent: must be a table, got 3"),
    "two_types": (
        {"toml": "[agent]\ntimeout_sec = -1\n[environment]\ncpus = true\n"},
        "[environment] cpus: must be a number, got true",
    ),
    "bytes": ({"toml": b'[metadata]\nname = "\xff"\n'}, "task.toml: line 2: not UTF-8 (byte 0xff)"),
    "no_instruction": ({"instruction": None}, "instruction.md: the file is missing"),
    "no_tests": ({"test": None}, "tests/test.sh: the file is missing"),
    "tests_directory": ({"test": None, "files": {"tests/test.sh/x": ""}}, "tests/test.sh: is not a file"),
}
UNSUPPORTED = {
    "multi_step": ({"toml": '[[steps]]\nname = "one"\n'}, task_module.MULTI_STEP),
    "compose": ({"files": {"environment/docker-compose.yaml": "services: {}\n"}}, task_module.COMPOSE),
    "windows": ({"toml": '[environment]\nos = "windows"\n'}, "windows environments are not supported"),
    "separate": ({"toml": '[verifier]\nenvironment_mode = "separate"\n'}, task_module.SEPARATE_VERIFIER),
    "network": ({"toml": '[environment]\nnetwork_mode = "allowlist"\n'}, task_module.NETWORK_POLICY),
    "no_internet": ({"toml": '[agent]\nnetwork_mode = "no-network"\n'}, task_module.NETWORK_POLICY),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_error_names_file_and_reason(project, kind):
    what, message = BROKEN[kind]
    directory = project.task("tb2/broken", **what)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-v")
    assert outcome.ret == 1
    assert outcome.counts == {"errors": 1}
    outcome.has("tb2/broken/task.toml::broken ERROR", f"\n{directory.relative_to(project.path)}/", message)
    outcome.lacks("tb2/broken: tb2/broken")
    outcome.shows_no_bug()
    (result,) = project.results()
    assert (result["task"], result["outcome"], result["reward"]) == ("tb2/broken", "error", None)
    assert message in result["reason"]


def test_other_tasks_still_run(project):
    for kind, (what, _) in BROKEN.items():
        project.task(f"tb2/{kind}", **what)
    project.task("tb2/a_good", UNSUPPORTED["windows"][0]["toml"])
    project.task("tb2/z_good", UNSUPPORTED["windows"][0]["toml"])
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.ret == 1
    assert outcome.counts == {"errors": len(BROKEN), "skipped": 2}
    outcome.has(*(message for _, message in BROKEN.values()))
    outcome.has(f"{len(BROKEN)} error", "2 skipped")
    outcome.lacks("pass rate")
    outcome.shows_no_bug()
    assert len(project.results()) == len(BROKEN) + 2


def test_every_attempt_is_an_error(project, monkeypatch):
    reads = []
    read = task_module.read_toml
    monkeypatch.setattr(task_module, "read_toml", lambda path: reads.append(path) or read(path))
    project.task("tb2/broken", "= =")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-attempts=3")
    assert outcome.counts == {"errors": 3}
    assert len(reads) == 1


def test_collect_only_lists_broken_tasks(project):
    for kind, (what, _) in BROKEN.items():
        project.task(f"tb2/{kind}", **what)
    assert sorted(project.ids("--harbor-dataset=tb2", "--strict-markers")) == sorted(
        f"tb2/{kind}/task.toml::{kind}" for kind in BROKEN
    )


def test_exclude_a_broken_task(project):
    project.task("tb2/broken", "= =")
    project.task("tb2/good", UNSUPPORTED["windows"][0]["toml"])
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-exclude-task=broken")
    assert outcome.ret == 0
    assert outcome.counts == {"skipped": 1}


def test_short_summary_contains_the_reason(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    project.task("tb2/broken", "= =")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("ERROR tb2/broken")]
    assert "task.toml::broken - " in line
    assert "task.toml: line 1, column 1: " in line


@pytest.mark.slow
def test_broken_task_in_workers(project):
    project.task("tb2/broken", "= =")
    project.task("tb2/unsupported", UNSUPPORTED["windows"][0]["toml"])
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-n", "2", subprocess=True)
    assert outcome.ret == 1
    assert outcome.counts == {"errors": 1, "skipped": 1}
    outcome.has("task.toml: line 1, column 1: ", "1 error, 1 skipped")
    outcome.shows_no_bug()
    assert {result["outcome"] for result in project.results()} == {"error", "skipped"}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_task_is_skipped(project, kind):
    what, reason = UNSUPPORTED[kind]
    project.task("tb2/odd", **what)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-rs", "-v")
    assert outcome.ret == 0
    assert outcome.counts == {"skipped": 1}
    outcome.has("tb2/odd/task.toml::odd SKIPPED", f"tb2/odd/task.toml: {reason}")
    outcome.shows_no_bug()
    (result,) = project.results()
    assert (result["outcome"], result["reason"], result["reward"]) == ("skipped", reason, None)


def test_oracle_skips_a_task_without_a_solution(project):
    project.task("tb2/unsolved")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=oracle", "-rs")
    assert outcome.counts == {"skipped": 1}
    outcome.has("the task has no solution/solve.sh for the oracle to run")
    outcome.shows_no_bug()
    (result,) = project.results()
    assert (result["outcome"], result["agent"]) == ("skipped", "oracle")


def test_unsupported_task_with_broken_files_is_skipped(project):
    project.task("tb2/odd", UNSUPPORTED["windows"][0]["toml"], test=None)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"skipped": 1}


def test_unknown_keys_are_warnings(project):
    project.task("tb2/odd", "[agent]\ntimeoutsec = 3\n[surprise]\nx = 1\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    # The error is the missing engine, not the unknown key.
    outcome.has(
        "the Docker Engine does not answer",
        "[agent] timeoutsec: unknown key, ignored; did you mean timeout_sec?",
        "surprise: unknown table, ignored",
    )
    (result,) = project.results()
    assert "[agent] timeoutsec: unknown key, ignored; did you mean timeout_sec?" in result["warnings"]


def test_results_contain_unknown_keys(project):
    project.task("tb2/odd", '[environment]\nos = "windows"\noss = 1\n')
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    (result,) = project.results()
    assert result["warnings"] == ["[environment] oss: unknown key, ignored; did you mean os?"]


def test_task_deleted_after_collection(project):
    project.task("tb2/gone")
    project.file(
        "conftest.py",
        "import shutil\ndef pytest_collection_finish(session):\n    shutil.rmtree(session.config.rootpath / 'tb2')\n",
    )
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("instruction.md: the file is missing")
    outcome.shows_no_bug()


def test_control_characters_are_not_printed(project):
    project.task("tb2/\x1b[31mred", '[agent]\n"\\u001b[2Jkey" = 1\ntimeout_sec = "\\u001b[2J"\n')
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--color=no")
    assert outcome.counts == {"errors": 1}
    outcome.lacks("\x1b")
