"""What is collected where: arguments, testpaths and datasets together."""

from __future__ import annotations

import pytest

RAISES = "raise SystemError('the host must never import this')\n"
UNIT = "tests/test_unit.py::test_one"
A, B = "evals/a/task.toml::a", "evals/b/task.toml::b"
FILES = {
    "tests/test_outputs.py": RAISES,
    "tests/conftest.py": RAISES,
    "conftest.py": RAISES,
    "test_here.py": RAISES,
    "solution/test_solution.py": RAISES,
    "environment/test_app.py": RAISES,
    "environment/conftest.py": RAISES,
}


@pytest.fixture
def mixed(project):
    """A project with unit tests and tasks."""
    project.file("tests/test_unit.py", "def test_one(): pass\n")
    project.task("evals/a", files=FILES)
    project.task("evals/b", files=FILES)
    return project


def test_ini_dataset_adds_to_testpaths(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals")
    assert mixed.ids() == [UNIT, A, B]


def test_ini_dataset_adds_to_the_current_directory(mixed):
    mixed.ini("harbor_dataset = evals")
    assert sorted(mixed.ids()) == [A, B, UNIT]


def test_dataset_in_addopts_adds_to_testpaths(mixed):
    mixed.ini("testpaths = tests", "addopts = --harbor-dataset=evals")
    assert mixed.ids() == [UNIT, A, B]
    assert mixed.ids("--harbor-dataset=evals/a") == [A, B], "as repeated flags do"


def test_dataset_that_is_a_testpath_too(mixed):
    mixed.ini("testpaths = tests evals", "harbor_dataset = evals")
    assert mixed.ids() == [UNIT, A, B]


def test_tests_beside_the_tasks_of_an_ini_dataset(mixed):
    mixed.file("evals/test_beside.py", "def test_two(): pass\n")
    mixed.file("evals/deep/test_deep.py", "def test_three(): pass\n")
    mixed.ini("harbor_dataset = evals")
    others = ["evals/deep/test_deep.py::test_three", "evals/test_beside.py::test_two"]
    assert sorted(mixed.ids()) == sorted([A, B, *others, UNIT])
    assert sorted(mixed.ids("evals")) == sorted([A, B, *others])
    assert mixed.ids("--harbor-dataset=evals") == [A, B]


def test_unit_tests_in_the_directory_of_an_ini_dataset(project):
    project.task("tests/a")
    project.file("tests/test_unit.py", "def test_one(): pass\n")
    project.ini("testpaths = tests", "harbor_dataset = tests")
    assert sorted(project.ids()) == ["tests/a/task.toml::a", UNIT]


@pytest.mark.parametrize("where", [".evals", "build/tb2", "env/tb2"])
def test_ini_dataset_where_pytest_does_not_look(project, where):
    project.file("test_unit.py", "def test_one(): pass\n")
    project.task(f"{where}/a")
    project.file(f"{where}/../test_no.py".replace(".evals/../", "build/"), RAISES)
    if where.startswith("env"):
        project.file("env/pyvenv.cfg", "")
        project.file("env/bin/activate", "")
    project.ini(f"harbor_dataset = {where}")
    assert sorted(project.ids()) == sorted([f"{where}/a/task.toml::a", "test_unit.py::test_one"])
    assert sorted(project.ids(".")) == sorted([f"{where}/a/task.toml::a", "test_unit.py::test_one"])


def test_ignored_ini_dataset(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals")
    assert mixed.ids("--ignore=evals") == [UNIT]
    assert mixed.ids("--ignore=evals/a") == [UNIT, B]


def test_overridden_testpaths(mixed):
    mixed.file("other/test_other.py", "def test_two(): pass\n")
    mixed.ini("testpaths = tests", "harbor_dataset = evals")
    assert mixed.ids("-o", "testpaths=other") == ["other/test_other.py::test_two", A, B]
    assert mixed.ids("-o", "harbor_dataset=evals/b") == [UNIT, B]
    assert mixed.ids("-o", "harbor_dataset=") == [UNIT]


def test_pyargs(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals", "addopts = --pyargs")
    assert mixed.ids() == [UNIT, A, B]
    assert mixed.ids("tests") == [UNIT]


def test_selection_among_unit_tests_and_tasks(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals")
    assert mixed.ids("-k", "test_one") == [UNIT]
    assert mixed.ids("-k", "evals") == [A, B]
    assert mixed.ids("-m", "harbor") == [A, B]
    assert mixed.ids("-m", "not harbor") == [UNIT]


def test_last_failed_among_unit_tests_and_tasks(mixed):
    mixed.file("tests/test_unit.py", "def test_one(): assert 0\n\n\ndef test_two(): pass\n")
    mixed.ini("testpaths = tests", "harbor_dataset = evals", "harbor_agent = nop")
    assert mixed.run().counts == {"failed": 1, "passed": 1, "errors": 2}
    assert mixed.ids("--lf") == [UNIT, A, B]


@pytest.mark.slow
def test_workers_collect_testpaths_and_datasets(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals", "harbor_agent = nop")
    outcome = mixed.run("-n", "2", "-v", subprocess=True)
    assert outcome.counts == {"passed": 1, "errors": 2}
    outcome = mixed.run("-n", "2", "-v", "evals/a", "tests", subprocess=True)
    assert outcome.counts == {"passed": 1, "errors": 1}


def test_current_directory_below_rootdir(mixed, monkeypatch):
    mixed.ini("harbor_dataset = evals")
    monkeypatch.chdir(mixed.path / "tests")
    assert mixed.ids() == [UNIT, A, B]
    monkeypatch.chdir(mixed.path / "evals")
    assert mixed.ids() == [A, B]


@pytest.mark.parametrize("args", [["tests"], ["tests/test_unit.py"], [UNIT]])
@pytest.mark.parametrize("flag", [True, False])
def test_dataset_that_arguments_leave_out_is_named(mixed, args, flag):
    mixed.ini("" if flag else "harbor_dataset = evals")
    outcome = mixed.run(*args, *(["--harbor-dataset=evals"] if flag else []))
    assert outcome.counts == {"passed": 1}
    outcome.has(
        "harbor: dataset evals collected only for tests that ask for tasks, since the command line names other paths; "
        "add evals to run its tasks"
    )


def test_datasets_that_arguments_leave_out_are_named(mixed):
    mixed.task("more/c")
    mixed.ini("harbor_dataset = evals more")
    mixed.run("tests").has("harbor: datasets evals, more collected only for tests that ask for tasks, since")
    outcome = mixed.run("tests", "evals", "--co")
    outcome.has(
        "harbor: dataset more collected only for tests that ask for tasks, since",
        "harbor: datasets evals (2 tasks), more (1 task)",
    )


def test_nothing_is_named_without_arguments(mixed):
    mixed.ini("testpaths = tests", "harbor_dataset = evals")
    for args in ([], ["."], ["evals"], ["evals/a"], [A], ["--harbor-dataset=evals"]):
        mixed.run("--co", *args).lacks("not collected")


def test_unit_tests_need_nothing_of_an_unused_dataset(mixed):
    """Neither an agent nor the dataset: it may not have been downloaded yet."""
    mixed.ini("harbor_dataset = not-there", "harbor_agent = openai", "harbor_gate = each")
    assert mixed.run("tests").counts == {"passed": 1}
    assert not (mixed.path / "harbor-results").exists()


def test_own_tests_about_a_dataset_that_arguments_leave_out(mixed):
    mixed.file("test_mine.py", "def test_it(harbor_task): pass\n")
    ids = ["test_mine.py::test_it[a]", "test_mine.py::test_it[b]"]
    assert mixed.ids("test_mine.py", "--harbor-dataset=evals") == ids
    mixed.ini("harbor_dataset = evals")
    assert mixed.ids("test_mine.py") == ids
    assert mixed.run("test_mine.py").counts == {"passed": 2}


@pytest.mark.parametrize(
    "args, ids",
    [
        (["evals"], [A, B]),
        (["evals/a"], [A]),
        (["evals/b", "tests"], [B, UNIT]),
        (["."], [A, B, UNIT]),
        ([], [A, B, UNIT]),
        (["evals/a/task.toml"], [A]),
        ([A, "evals/b"], [A, B]),
    ],
)
def test_directories_with_an_agent(mixed, args, ids):
    assert mixed.ids("--harbor-agent=nop", *args) == ids
    mixed.ini("harbor_agent = nop")
    assert mixed.ids(*args) == ids


@pytest.mark.parametrize(
    "agent",
    [["--harbor-agent-command=true"], ["--harbor-agents=agents.toml"], ["-c", "own.toml"], ["-p", "chooses"]],
    ids=str,
)
def test_ways_to_choose_an_agent(mixed, agent, monkeypatch):
    mixed.file("agents.toml", "[[agents]]\nname = 'x'\nagent = 'nop'\n")
    mixed.file(
        "pyproject.toml", "[[tool.pytest-harbor.agents]]\nname = 'x'\nagent = 'nop'\n[tool.pytest.ini_options]\n"
    )
    mixed.path.joinpath("own.toml").write_text("[pytest]\n[[pytest-harbor.agents]]\nname = 'x'\nagent = 'nop'\n")
    mixed.file("chooses.py", "def pytest_harbor_agent(): return 'nop'\n")
    monkeypatch.syspathinsert(mixed.path) if hasattr(monkeypatch, "syspathinsert") else mixed.pytester.syspathinsert()
    if agent[0] == "-c":
        agent = []
    found = mixed.ids("evals/a", *agent)
    assert [node_id.partition("[")[0] for node_id in found] == [A]


def test_directory_beside_the_datasets_of_the_ini_file(mixed):
    mixed.task("more/c")
    mixed.task("more/d")
    mixed.ini("harbor_dataset = evals/a", "harbor_agent = nop")
    assert mixed.ids("more") == ["more/c/task.toml::c", "more/d/task.toml::d"]
    assert sorted(mixed.ids(".")) == [A, UNIT], "the dataset is a choice among the tasks below"
    assert sorted(mixed.ids()) == [A, UNIT]


def test_directories_that_pytest_skips_are_not_searched(project):
    project.task("build/a")
    project.task(".hidden/b")
    project.task("tb2/c")
    assert project.ids("--harbor-agent=nop") == ["tb2/c/task.toml::c"]
    assert project.ids("--harbor-agent=nop", "build") == ["build/a/task.toml::a"]


def test_task_toml_of_something_else(project):
    project.file("tests/task.toml", "[build]\n")
    project.file("tests/test_unit.py", "def test_one(): pass\n")
    for args in ([], ["tests"], ["--harbor-agent=nop"], ["tests", "--harbor-agent=nop"]):
        assert project.ids(*args) == [UNIT], args


def test_directory_of_a_hud_project(project):
    project.file("Dockerfile.hud", "FROM scratch\n")
    project.file("tests/test_unit.py", "def test_one(): pass\n")
    assert project.ids() == [UNIT]
    assert project.ids("tests", "--harbor-agent=nop") == [UNIT]


@pytest.mark.parametrize(
    "args, hint",
    [
        (
            ["evals"],
            "2 Harbor tasks below evals were not collected; choose an agent to run them, such as --harbor-agent=",
        ),
        (
            ["evals/a"],
            "the Harbor task evals/a was not collected; choose an agent to run it, such as --harbor-agent=oracle",
        ),
        (["evals", "tests"], "2 Harbor tasks below evals were not collected"),
        (["evals", "-q"], "2 Harbor tasks below evals were not collected"),
    ],
)
def test_directories_without_an_agent(mixed, args, hint):
    outcome = mixed.run(*args)
    assert outcome.ret == (0 if "tests" in args else 5)
    outcome.has(f"harbor: {hint}")
    outcome.shows_no_bug()


@pytest.mark.parametrize("where, what", [("evals", "2 Harbor tasks here were"), ("evals/a", "the Harbor task a was")])
def test_current_directory_without_an_agent(mixed, monkeypatch, where, what):
    monkeypatch.chdir(mixed.path / where)
    mixed.run().has(f"harbor: {what} not collected; choose an agent")


@pytest.mark.slow
def test_directories_without_an_agent_in_workers(mixed):
    outcome = mixed.run("evals", "-n", "2", subprocess=True)
    assert outcome.ret == 5
    outcome.has("harbor: 2 Harbor tasks below evals were not collected")


def test_directory_without_tasks(mixed):
    mixed.path.joinpath("empty").mkdir()
    outcome = mixed.run("empty", "--harbor-agent=nop")
    assert outcome.ret == 5
    outcome.has("harbor: no task found in empty; a task is a directory with a task.toml and an instruction.md")
    outcome = mixed.run("tests", "--harbor-agent=nop")
    assert outcome.counts == {"passed": 1}
    outcome.has(
        "harbor: no test needs the agent, and there is no task in tests; a task is a directory with a task.toml"
    )
    outcome = mixed.run("nosuch", "--harbor-agent=nop")
    outcome.has("ERROR: file or directory not found: nosuch")
    outcome.lacks("no task found")


def test_no_hint_beside_unit_tests(mixed):
    outcome = mixed.run()
    assert outcome.counts == {"passed": 1}
    outcome.lacks("harbor:")


@pytest.mark.parametrize("agent", [[], ["--harbor-agent=nop"], ["--harbor-dataset=other"]], ids=str)
@pytest.mark.parametrize(
    "args", [[], ["."], ["evals"], ["evals/a"], ["evals", "evals/b"], ["./evals/../evals/a/"], ["--pyargs", "evals"]]
)
def test_files_of_tasks_are_never_imported(mixed, args, agent):
    """With an agent, for trials; without one, to say how to run them."""
    mixed.task("other/c", files=FILES)
    mixed.task("evals/test-d", files=FILES)
    for flags in ([], ["--import-mode=importlib"], ["--doctest-modules"]):
        mixed.run(*args, *agent, "--co", "-q", *flags).lacks("SystemError")


def test_files_of_tasks_in_testpaths(mixed):
    mixed.task("evals/test-d", files=FILES)
    mixed.ini("testpaths = tests evals evals/a")
    outcome = mixed.run("--co", "-q")
    assert outcome.ids == [UNIT]
    outcome.lacks("SystemError")
    mixed.ini("testpaths = tests evals", "harbor_agent = nop")
    assert mixed.ids() == [UNIT, A, B, "evals/test-d/task.toml::test-d"]


@pytest.mark.parametrize("where, ids", [("evals/a", ["a/task.toml::a", "task.toml::a", A])])
def test_task_as_the_current_directory(mixed, monkeypatch, where, ids):
    monkeypatch.chdir(mixed.path / where)
    mixed.run().has("harbor: the Harbor task", "was not collected")
    (node_id,) = mixed.ids("--harbor-agent=nop")
    assert node_id in ids


@pytest.mark.parametrize(
    "path", ["evals/a/tests", "evals/a/tests/test_outputs.py", "evals/a/solution", "evals/a/test_here.py"]
)
@pytest.mark.parametrize("agent", [[], ["--harbor-agent=nop"]], ids=str)
def test_files_of_tasks_as_arguments(mixed, path, agent):
    outcome = mixed.run(path, *agent)
    assert outcome.ret == 4
    outcome.has(
        f"ERROR: {path} belongs to the Harbor task evals/a", "give evals/a and --harbor-agent=AGENT", "-p no:harbor"
    )
    outcome.lacks("SystemError")
    outcome.shows_no_bug()


def test_link_into_a_task(mixed):
    mixed.path.joinpath("linked").symlink_to("evals/a/tests")
    outcome = mixed.run("linked", "--harbor-agent=nop")
    assert outcome.ret == 4
    outcome.has("ERROR: linked belongs to the Harbor task evals/a")
    outcome.lacks("SystemError")


def test_linked_dataset_as_argument(mixed):
    mixed.path.joinpath("linked").symlink_to("evals")
    assert mixed.ids("linked", "--harbor-agent=nop") == ["linked/a/task.toml::a", "linked/b/task.toml::b"]


def test_task_without_its_other_files(project):
    project.file("evals/a/task.toml", "[verifier]\ntimeout_sec = 60\n")
    project.file("evals/a/tests/test_outputs.py", RAISES)
    outcome = project.run("evals", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("instruction.md")
    outcome.lacks("SystemError")


def test_tests_directory_of_a_task_as_the_current_directory(mixed, monkeypatch):
    monkeypatch.chdir(mixed.path / "evals/a/tests")
    outcome = mixed.run()
    assert outcome.ret == 4
    outcome.has("belongs to the Harbor task")
    outcome.lacks("SystemError")


def test_conftest_files_above_and_beside_tasks_are_loaded(mixed):
    mixed.task("evals/test-d", files=FILES)
    mixed.file("evals/conftest.py", "def pytest_addoption(parser): parser.addoption('--ours')\n")
    mixed.file("evals/test_more/conftest.py", "def pytest_addoption(parser): parser.addoption('--more')\n")
    mixed.run("evals", "--ours=1", "--more=2", "--co").lacks("SystemError", "unrecognized")
    mixed.run("evals/a", "--ours=1", "--co").lacks("SystemError", "unrecognized")


@pytest.mark.parametrize(
    "arg, guess",
    [
        ("a/task.toml::a", A),
        ("a/task.toml::a[2]", f"{A}[2]"),
        ("a/task.toml", "evals/a/task.toml"),
        ("evals/long-nane/task.toml::long-nane[x-2]", "evals/long-name/task.toml::long-name[x-2]"),
    ],
)
def test_node_id_of_a_task_that_is_elsewhere(mixed, arg, guess):
    mixed.task("evals/long-name")
    for options in ([], ["--harbor-dataset=evals"], ["--harbor-agent=nop"]):
        outcome = mixed.run(arg, *options)
        assert outcome.ret == 4
        outcome.has(f"ERROR: {arg.partition('::')[0]} does not exist; did you mean {guess}?")
        outcome.lacks("--harbor-dataset:")


def test_node_id_of_an_unknown_task(mixed):
    outcome = mixed.run("nothing/like-it/task.toml::like-it")
    assert outcome.ret == 4
    outcome.has("ERROR: nothing/like-it/task.toml does not exist; give the path of a task")


def test_dataset_below_a_mistyped_directory(mixed):
    mixed.task("examples/tasks/c")
    outcome = mixed.run("--harbor-dataset=example/tasks", "--harbor-agent=nop")
    assert outcome.ret == 4
    outcome.has("(did you mean 'examples/tasks'?)")
    outcome.lacks("registry")


@pytest.mark.parametrize(
    "value, advice",
    [
        ("terminal-bench@2.0", "`harbor dataset download terminal-bench@2.0 --output-dir datasets`"),
        ("terminal-bench", "`harbor dataset download terminal-bench --output-dir datasets`"),
        (
            "laude-institute/terminal-bench-2",
            "`harbor dataset download laude-institute/terminal-bench-2 --output-dir datasets`",
        ),
        (
            "https://github.com/laude-institute/terminal-bench-2",
            "`git clone https://github.com/laude-institute/terminal-bench-2`, and give terminal-bench-2",
        ),
        ("https://github.com/a/b.git", "`git clone https://github.com/a/b.git`, and give b"),
        ("https://github.com/a/b/tree/main/tasks/easy", "`git clone https://github.com/a/b`, and give b/tasks/easy"),
        ("git@github.com:a/b.git", "`git clone git@github.com:a/b.git`, and give b"),
        ("github.com/a/b", "`git clone https://github.com/a/b`, and give b"),
        ("https://huggingface.co/datasets/a/b", "`git clone https://huggingface.co/datasets/a/b`, and give b"),
        ("hf://datasets/a/b", "`git clone https://huggingface.co/datasets/a/b`, and give b"),
        ("https://example.com/tasks.zip", "download and unpack it"),
        ("s3://bucket/tasks", "download it, and give the directory"),
    ],
)
@pytest.mark.parametrize("ini", [False, True])
def test_dataset_that_is_not_a_path(mixed, value, advice, ini):
    mixed.ini(f"harbor_dataset = {value}" if ini else "")
    outcome = mixed.run(*([] if ini else [f"--harbor-dataset={value}"]), "--harbor-agent=nop")
    assert outcome.ret == 4
    source = "ini key harbor_dataset" if ini else "--harbor-dataset"
    outcome.has(f"ERROR: {source}: {value!r} ", advice)
    outcome.shows_no_bug()


def test_mistyped_path_of_a_dataset(mixed):
    mixed.run("--harbor-dataset=evlas").has("'evlas' does not exist", "(did you mean 'evals'?)")
    mixed.run("--harbor-dataset=evlas/a/b").has("(did you mean 'evals'?)")
    mixed.run("--harbor-dataset=./nothing").has(
        f"'./nothing' does not exist in {mixed.path}; give a task, a dataset or"
    )
    mixed.file("tasks.tar.gz", "")
    mixed.run("--harbor-dataset=tasks.tar.gz").has("'tasks.tar.gz' is an archive; unpack it")


def test_terminal_bench_1(project):
    for name in ("x", "y"):
        project.file(f"tb1/{name}/task.yaml", "instruction: do it\n")
        project.file(f"tb1/{name}/run-tests.sh", "exit 0\n")
    outcome = project.run("--harbor-dataset=tb1", "--co")
    assert outcome.ret == 4
    outcome.has("tb1 contains 2 tasks in the format of Terminal-Bench 1 (task.yaml)", "`harbor tasks migrate -i ")
