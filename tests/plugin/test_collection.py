"""Node ids, and how pytest's options work with them."""

from __future__ import annotations

import os
import textwrap

import pytest

SKIPPED = '[environment]\nos = "windows"\n'
RAISES = "raise SystemError('the host must never import this')\n"


def test_node_ids(project):
    project.task("tb2/hello-world")
    project.task("tb2/other")
    assert project.ids("--harbor-dataset=tb2") == [
        "tb2/hello-world/task.toml::hello-world",
        "tb2/other/task.toml::other",
    ]


def test_node_ids_of_attempts(project):
    project.task("tb2/a")
    assert project.ids("--harbor-dataset=tb2", "--harbor-attempts=3") == [
        "tb2/a/task.toml::a",
        "tb2/a/task.toml::a[2]",
        "tb2/a/task.toml::a[3]",
    ]


def test_node_id_does_not_depend_on_the_given_path(project):
    task = project.task("all/tb2/a")
    for path in ("all", "all/tb2", "all/tb2/a", "all/tb2/a/task.toml", "./all/../all", task, project.path):
        assert project.ids(f"--harbor-dataset={path}") == ["all/tb2/a/task.toml::a"], path


def test_node_id_as_argument(project):
    for name in ("a", "b", "c"):
        project.task(f"tb2/{name}")
    ids = project.ids("--harbor-dataset=tb2")
    assert len(ids) == 3
    for node_id in ids:
        assert project.ids(node_id) == [node_id]
        assert project.ids("--harbor-dataset=tb2", node_id) == [node_id]


def test_node_id_of_an_attempt_as_argument(project):
    project.task("tb2/a")
    project.task("tb2/b")
    assert project.ids("--harbor-attempts=3", "tb2/a/task.toml::a[2]") == ["tb2/a/task.toml::a[2]"]
    # In pytest, a name without brackets selects all variants.
    assert len(project.ids("--harbor-attempts=3", "tb2/a/task.toml::a")) == 3


def test_task_toml_as_argument(project):
    project.task("tb2/a")
    project.task("tb2/b")
    assert project.ids("tb2/a/task.toml") == ["tb2/a/task.toml::a"]
    assert project.ids("tb2/a/task.toml", "--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]


def test_unknown_node_id(project):
    project.task("tb2/a")
    outcome = project.run("--collect-only", "tb2/a/task.toml::b")
    assert outcome.ret == 4
    outcome.has("the test of this task is named a; did you mean tb2/a/task.toml::a?", "task.toml::b")
    outcome.shows_no_bug()


def test_several_node_ids_keep_their_order(project):
    for name in ("a", "b", "c"):
        project.task(f"tb2/{name}")
    ids = ["tb2/c/task.toml::c", "tb2/a/task.toml::a"]
    assert project.ids(*ids) == ids


def test_node_ids_outside_rootdir(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    project.task(outside / "tb2" / "a")
    project.ini()
    (node_id,) = project.ids(f"--harbor-dataset={outside}")
    assert node_id == f"{outside}/tb2/a/task.toml::a"
    assert project.ids("--rootdir=.", node_id) == [node_id]
    assert project.ids("--rootdir=.", f"--harbor-dataset={outside}", node_id) == [node_id]
    # Without --rootdir, pytest uses the common ancestor of its arguments, and node ids are relative to that.
    (found,) = project.ids(node_id)
    assert node_id.endswith(f"/{found}")


def test_equal_directory_names_outside_rootdir(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    paths = [outside / version / "tb2" for version in ("v1", "v2")]
    for path in paths:
        project.task(path / "a")
    project.ini()
    ids = project.ids(*(f"--harbor-dataset={path}" for path in paths))
    assert ids == [f"{path}/a/task.toml::a" for path in paths]
    for node_id in ids:
        assert project.ids("--rootdir=.", node_id) == [node_id]
        assert project.ids("--rootdir=.", *(f"--harbor-dataset={path}" for path in paths), node_id) == [node_id]
    assert project.ids("--rootdir=.", *ids) == ids


def test_equal_task_names_in_two_datasets(project):
    project.task("d1/a")
    project.task("d2/a")
    ids = ["d1/a/task.toml::a", "d2/a/task.toml::a"]
    assert project.ids("--harbor-dataset=d1", "--harbor-dataset=d2") == ids
    assert project.ids("--harbor-dataset=.") == ids


def test_linked_dataset_and_its_target(project):
    project.task("real/a")
    project.path.joinpath("linked").symlink_to("real")
    ids = ["linked/a/task.toml::a", "real/a/task.toml::a"]
    assert project.ids("--harbor-dataset=linked", "--harbor-dataset=real") == ids
    assert project.ids("--harbor-dataset=.") == ids
    for node_id in ids:
        assert project.ids(node_id) == [node_id]


def test_linked_task_keeps_its_name(project):
    project.task("real/a")
    project.path.joinpath("picked").mkdir()
    project.path.joinpath("picked/z").symlink_to("../real/a")
    assert project.ids("--harbor-dataset=picked") == ["picked/z/task.toml::z"]


def test_nested_datasets_and_a_path_given_twice(project):
    project.task("all/x/a")
    project.task("all/x/deep/b")
    project.task("all/y/c")
    ids = ["all/x/a/task.toml::a", "all/x/deep/b/task.toml::b", "all/y/c/task.toml::c"]
    assert project.ids("--harbor-dataset=all") == ids
    twice = project.ids("--harbor-dataset=all/x", "--harbor-dataset=all")
    assert sorted(twice) == ids
    assert sorted(project.ids("--harbor-dataset=all/x/a", "--harbor-dataset=all/x")) == ids[:2]
    assert sorted(project.ids("--harbor-dataset=all/x", "--harbor-dataset=all/x/a")) == ids[:2]


def test_names_in_norecursedirs(project):
    names = ["build", "dist", "venv", "node_modules", "CVS", "x.egg", "_darcs", "__pycache__"]
    for name in names:
        project.task(f"tb2/{name}")
    project.task("venv/inner")
    (project.path / "venv" / "pyvenv.cfg").touch()
    (project.path / "venv" / "bin").mkdir()
    (project.path / "venv" / "bin" / "activate").touch()
    assert sorted(project.ids("--harbor-dataset=tb2")) == sorted(f"tb2/{name}/task.toml::{name}" for name in names)
    assert project.ids("--harbor-dataset=venv") == ["venv/inner/task.toml::inner"]
    for name in names:
        assert project.ids(f"tb2/{name}/task.toml::{name}") == [f"tb2/{name}/task.toml::{name}"]


@pytest.mark.parametrize(
    "name", ["with space", "ünïcödé-任务", "UPPER", "brackets[1]", "a::b", "dots.in.it", "-dash", "#1"]
)
def test_unusual_names(project, name):
    project.task(f"tb2/{name}")
    (node_id,) = project.ids("--harbor-dataset=tb2")
    assert node_id == f"tb2/{name}/task.toml::{name}"
    if "::" not in name and "[" not in name:  # pytest supports neither in the path of an argument
        assert project.ids(node_id) == [node_id]


def test_newline_in_a_name(project):
    project.task("tb2/two\nlines")
    (node_id,) = project.ids("--harbor-dataset=tb2")
    assert node_id.endswith("::two_lines")


def test_names_that_differ_only_in_case(project):
    project.task("tb2/a")
    project.task("tb2/A")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/A/task.toml::A", "tb2/a/task.toml::a"]


def test_other_files_of_a_task_are_not_collected(project):
    files = {
        "tests/test_outputs.py": RAISES,
        "tests/conftest.py": RAISES,
        "environment/conftest.py": RAISES,
        "environment/test_app.py": RAISES,
        "test_here.py": RAISES,
        "__init__.py": RAISES,
        "solution/test_solution.py": RAISES,
        "environment/deep/task.toml": "",
        "environment/deep/instruction.md": "x",
        "tests/doc.txt": ">>> 1 + 1\n3\n",
    }
    project.task("tb2/a", files=files)
    expected = ["tb2/a/task.toml::a"]
    assert project.ids("--harbor-dataset=tb2") == expected
    assert project.ids("--harbor-dataset=tb2", ".") == expected
    assert project.ids("--harbor-dataset=tb2", "--doctest-modules", "--doctest-glob=*.txt", ".") == expected
    assert project.ids("--harbor-dataset=tb2/a") == expected
    assert project.ids(expected[0]) == expected
    assert project.ids("tb2/a/task.toml") == expected
    assert project.ids("--harbor-dataset=tb2", "tb2/a") == expected
    assert project.ids("--harbor-dataset=tb2", "--import-mode=importlib", ".") == expected


def test_conftest_of_a_task_is_not_imported(project):
    project.task("tb2/a", files={"conftest.py": RAISES})
    project.task("tb2/b", files={"conftest.py": RAISES, "__init__.py": RAISES})
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a", "tb2/b/task.toml::b"]
    assert project.ids("--harbor-dataset=tb2", ".") == ["tb2/a/task.toml::a", "tb2/b/task.toml::b"]


@pytest.mark.parametrize("conftest", ["conftest.py", "tests/conftest.py"])
@pytest.mark.parametrize("path", ["tb2/a", "tb2/a/task.toml", "tb2/a/task.toml::a"])
def test_conftest_of_a_task_given_as_argument_is_not_imported(project, conftest, path):
    project.task("tb2/a", files={conftest: RAISES})
    assert project.ids("--harbor-dataset=tb2", path) == ["tb2/a/task.toml::a"]


@pytest.mark.parametrize("conftest", ["conftest.py", "tests/conftest.py"])
def test_conftest_of_a_task_in_the_working_directory_is_not_imported(project, conftest, monkeypatch):
    project.ini()
    monkeypatch.chdir(project.task("tb2/a", files={conftest: RAISES}))
    assert project.ids("--harbor-dataset=.") == ["tb2/a/task.toml::a"]


def test_path_argument_selects(project):
    project.task("tb2/a")
    project.file("unit/test_unit.py", "def test_one(): pass\n")
    assert project.ids("--harbor-dataset=tb2", "unit") == ["unit/test_unit.py::test_one"]
    assert project.ids("--harbor-dataset=tb2", ".") == ["tb2/a/task.toml::a", "unit/test_unit.py::test_one"]
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]


def test_dataset_in_the_ini_file(project):
    project.task("tb2/a")
    project.file("unit/test_unit.py", "def test_one(): pass\n")
    project.ini("harbor_dataset = tb2")
    assert project.ids(".") == ["tb2/a/task.toml::a", "unit/test_unit.py::test_one"]
    assert project.ids() == ["tb2/a/task.toml::a", "unit/test_unit.py::test_one"]
    assert project.ids("unit") == ["unit/test_unit.py::test_one"]


def test_dataset_flag_overrides_testpaths(project):
    project.task("tb2/a")
    project.file("unit/test_unit.py", "def test_one(): pass\n")
    project.ini("testpaths = unit")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]


def test_test_files_next_to_tasks(project):
    project.task("tb2/a")
    project.file("tb2/test_beside.py", "def test_one(): pass\n")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]
    assert project.ids("--harbor-dataset=tb2", "tb2/test_beside.py") == ["tb2/test_beside.py::test_one"]


def test_test_files_in_a_directory_that_leads_to_tasks(project):
    project.task("evals/tb2/a")
    project.file("evals/test_evals.py", "def test_one(): pass\n")
    project.file("test_top.py", "def test_two(): pass\n")
    project.file("unit/test_unit.py", "def test_three(): pass\n")
    assert sorted(project.ids("--harbor-dataset=evals/tb2", ".")) == [
        "evals/tb2/a/task.toml::a",
        "evals/test_evals.py::test_one",
        "test_top.py::test_two",
        "unit/test_unit.py::test_three",
    ]


def test_tasks_are_not_collected_without_a_dataset(project):
    project.task("tb2/a")
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.ids() == ["test_unit.py::test_one"]
    assert project.ids(".") == ["test_unit.py::test_one"]


def test_another_working_directory(project, monkeypatch):
    project.ini()
    project.task("tb2/a")
    project.path.joinpath("sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    (node_id,) = project.ids("--rootdir=..", "-c", "../pytest.ini", "--harbor-dataset=../tb2")
    # As for any test, node ids are relative to rootdir, and valid there.
    assert node_id == "tb2/a/task.toml::a"
    assert project.ids("-c", "../pytest.ini", "../tb2/a/task.toml::a") == [node_id]
    monkeypatch.chdir(project.path)
    assert project.ids(node_id) == [node_id]


def test_relative_datasets_of_flag_and_ini_key(project, monkeypatch):
    project.ini("harbor_dataset = tb2")
    project.task("tb2/a")
    project.task("sub/tb2/b")
    monkeypatch.chdir(project.path / "sub")
    assert project.ids("-c", "../pytest.ini") == ["tb2/a/task.toml::a"]
    assert project.ids("-c", "../pytest.ini", "--harbor-dataset=tb2") == ["sub/tb2/b/task.toml::b"]


MARKED = textwrap.dedent(
    """
    [metadata]
    difficulty = "Easy"
    category = "file operations"
    tags = ["C++", "a-b", "日本", "", "a b"]
    """
)


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("harbor", ["a", "b"]),
        ("difficulty_easy", ["a"]),
        ("category_file_operations", ["a"]),
        ("tag_c", ["a"]),
        ("tag_a_b", ["a"]),
        ("tag_日本", ["a"]),
        ("not difficulty_easy", ["b"]),
        ("harbor and not tag_a_b", ["b"]),
    ],
)
def test_select_by_mark(project, expression, expected):
    project.task("tb2/a", MARKED)
    project.task("tb2/b")
    ids = project.ids("--harbor-dataset=tb2", "-m", expression, "--strict-markers")
    assert ids == [f"tb2/{name}/task.toml::{name}" for name in expected]


@pytest.mark.parametrize(
    "keyword, expected",
    [("hello", ["hello"]), ("not hello", ["b", "c"]), ("tag_a_b", ["c"]), ("hello or tag_a_b", ["c", "hello"])],
)
def test_select_by_keyword(project, keyword, expected):
    project.task("tb2/b")
    project.task("tb2/hello")
    project.task("tb2/c", MARKED)
    ids = project.ids("--harbor-dataset=tb2", "-k", keyword)
    assert sorted(ids) == [f"tb2/{name}/task.toml::{name}" for name in sorted(expected)]


def test_exact_name_with_brackets_is_not_a_glob(project):
    project.task("tb2/brackets[1]")
    project.task("tb2/brackets1")
    ids = project.ids("--harbor-dataset=tb2", "--harbor-task=brackets[1]")
    assert ids == ["tb2/brackets[1]/task.toml::brackets[1]"]


def test_select_a_dataset_by_keyword(project):
    project.task("first/a")
    project.task("second/a")
    assert project.ids("--harbor-dataset=.", "-k", "second") == ["second/a/task.toml::a"]


def test_strict_markers(project):
    project.task("tb2/a", MARKED)
    project.ini("addopts = --strict-markers --strict-config", "harbor_dataset = tb2")
    assert project.ids() == ["tb2/a/task.toml::a"]


def test_deselect(project):
    for name in ("a", "b"):
        project.task(f"tb2/{name}")
    assert project.ids("--harbor-dataset=tb2", "--deselect=tb2/a/task.toml::a") == ["tb2/b/task.toml::b"]
    assert project.ids("--harbor-dataset=tb2", "--deselect=tb2/a") == ["tb2/b/task.toml::b"]


def test_ignore(project):
    for name in ("a", "b"):
        project.task(f"tb2/{name}")
    assert project.ids("--harbor-dataset=tb2", "--ignore=tb2/a") == ["tb2/b/task.toml::b"]
    assert project.ids("--harbor-dataset=tb2", "--ignore-glob=*/a") == ["tb2/b/task.toml::b"]


def test_last_failed_and_failed_first(project):
    for name in ("a", "b", "c"):
        project.task(f"tb2/{name}", SKIPPED if name == "b" else "")
    options = ["--harbor-dataset=tb2", "--harbor-agent=nop"]
    assert project.run(*options).counts == {"errors": 2, "skipped": 1}
    assert project.ids(*options, "--lf") == ["tb2/a/task.toml::a", "tb2/c/task.toml::c"]
    assert project.ids(*options, "--ff") == ["tb2/a/task.toml::a", "tb2/c/task.toml::c", "tb2/b/task.toml::b"]


def test_last_failed_with_attempts(project):
    project.task("tb2/a")
    options = ["--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-attempts=2"]
    project.run(*options, "-x")
    assert project.ids(*options, "--lf") == ["tb2/a/task.toml::a"]


def test_last_failed_with_agents_and_attempts(project):
    project.task("tb2/a")
    project.task("tb2/b", SKIPPED)
    project.file("agents.toml", "".join(f"[[agents]]\nname = '{name}'\nagent = 'nop'\n" for name in ("x", "y")))
    options = ["--harbor-dataset=tb2", "--harbor-agents=agents.toml", "--harbor-attempts=2"]
    project.run(*options, "-k", "not y-2")
    failed = ["a[x]", "a[y]", "a[x-2]"]
    assert project.ids(*options, "--lf") == [f"tb2/a/task.toml::{name}" for name in failed]


def test_exitfirst_and_maxfail_count_errors(project):
    for name in ("a", "b", "c"):
        project.task(f"tb2/{name}")
    options = ["--harbor-dataset=tb2", "--harbor-agent=nop"]
    assert project.run(*options, "-x").counts == {"errors": 1}
    assert project.run(*options, "--maxfail=2").counts == {"errors": 2}


def test_stepwise(project):
    for name in ("a", "b"):
        project.task(f"tb2/{name}")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--sw")
    assert outcome.counts == {"errors": 1}
    outcome.has("continuing from this test next run")


def test_setup_plan(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--setup-plan")
    assert outcome.ret == 0
    outcome.has("SETUP    F harbor_task", "harbor_image", "harbor_environment", "harbor_agent", "harbor_trial")
    outcome.has("tb2/a/task.toml::a")
    outcome.shows_no_bug()
    assert not list(project.path.glob("harbor-results/*/a__*")), "nothing ran"


def test_setup_show_and_setup_only_stop_at_the_missing_engine(project):
    project.task("tb2/a")
    for flag in ("--setup-only", "--setup-show"):
        outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", flag)
        assert outcome.ret == 1
        outcome.has("SETUP    F harbor_task", "the Docker Engine does not answer")
        outcome.shows_no_bug()


def test_collect_only_tree(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--collect-only")
    outcome.has("tb2", "task.toml", "a>", "1 test collected")


def test_collect_only_writes_no_results(project):
    project.task("tb2/a")
    project.ids("--harbor-dataset=tb2")
    assert not (project.path / "harbor-results").exists()


@pytest.mark.slow
def test_workers_collect_the_same_items(project):
    for name in ("b", "a"):
        project.task(f"tb2/{name}", SKIPPED + MARKED)
    outcome = project.run(
        "--harbor-dataset=tb2", "--harbor-agent=nop", "-n", "2", "-v", "--strict-markers", subprocess=True
    )
    assert outcome.counts == {"skipped": 2}
    outcome.has("SKIPPED tb2/a/task.toml::a", "SKIPPED tb2/b/task.toml::b", "2 workers [2 items]")
    outcome.shows_no_bug()


@pytest.mark.slow
def test_workers_collect_an_ini_dataset_outside_rootdir(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    project.task(outside / "tb2" / "a", SKIPPED)
    project.file("test_unit.py", "def test_one(): pass\n")
    project.ini(f"harbor_dataset = {outside}", "harbor_agent = nop")
    outcome = project.run("-n", "2", "-v", subprocess=True)
    assert outcome.counts == {"passed": 1, "skipped": 1}
    outcome.has(f"SKIPPED {outside}/tb2/a/task.toml::a")
    outcome = project.run("-n", "2", "-v", ".", "--harbor-dataset=" + str(outside), subprocess=True)
    assert outcome.counts == {"passed": 1}


@pytest.mark.slow
def test_workers_run_given_node_ids(project):
    project.task("tb2/a", SKIPPED)
    project.task("tb2/b", SKIPPED)
    outcome = project.run("tb2/b/task.toml::b", "--harbor-agent=nop", "-n", "2", "-v", subprocess=True)
    assert outcome.counts == {"skipped": 1}
    outcome.has("SKIPPED tb2/b/task.toml::b")


@pytest.mark.slow
def test_workers_get_the_selection(project):
    project.task("tb2/a", MARKED)
    project.task("tb2/b", SKIPPED)
    options = ["--harbor-dataset=tb2", "--harbor-agent=nop", "-n", "2"]
    assert project.run(*options, "-m", "not tag_a_b", subprocess=True).counts == {"skipped": 1}
    assert project.run(*options, subprocess=True).counts == {"skipped": 1, "errors": 1}
    outcome = project.run(*options, "--lf", "-v", subprocess=True)
    assert outcome.counts == {"errors": 1}
    outcome.has("ERROR tb2/a/task.toml::a")


def test_conftest_above_a_dataset(project):
    project.task("evals/tb2/a")
    project.file(
        "evals/tb2/conftest.py",
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.skip(reason="from a conftest below the dataset"))
        """.replace("\n        ", "\n"),
    )
    outcome = project.run("--harbor-dataset=evals", "--harbor-agent=nop", "-rs")
    assert outcome.counts == {"skipped": 1}
    outcome.has("from a conftest below the dataset")


def test_conftest_above_a_dataset_outside_rootdir(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    project.task(outside / "tb2" / "a")
    outside.joinpath("tb2", "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef harbor_agent():\n    pytest.skip('overridden')\n"
    )
    project.ini()
    outcome = project.run(f"--harbor-dataset={outside}/tb2", "-rs")
    assert outcome.counts == {"skipped": 1}
    outcome.has("overridden")


def test_conftest_above_a_dataset_may_have_options_and_plugins(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    project.task(outside / "tb2" / "a")
    outside.joinpath("conftest.py").write_text(
        "pytest_plugins = ['pytester']\n\ndef pytest_addoption(parser):\n    parser.addoption('--mine')\n"
    )
    project.ini()
    assert project.run(f"--harbor-dataset={outside}/tb2", "--mine=1", "--collect-only", subprocess=True).ret == 0


def test_without_the_cache_plugin(project):
    project.task("tb2/a")
    assert project.ids("--harbor-dataset=tb2", "-p", "no:cacheprovider") == ["tb2/a/task.toml::a"]


def test_pytest_current_test(project):
    project.task("tb2/a")
    project.file(
        "conftest.py",
        "import os, pytest\n@pytest.fixture\ndef harbor_agent():\n    pytest.skip(os.environ['PYTEST_CURRENT_TEST'])\n",
    )
    outcome = project.run("--harbor-dataset=tb2", "-rs")
    outcome.has("tb2/a/task.toml::a (setup)")


def test_unreadable_dataset(project):
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    project.task("tb2/a")
    (project.path / "tb2").chmod(0)
    outcome = project.run("--harbor-dataset=tb2", "--collect-only")
    (project.path / "tb2").chmod(0o755)
    assert outcome.ret == 4
