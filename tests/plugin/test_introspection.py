"""Other plugins and conftest files may ask our items whatever they ask test functions."""

from __future__ import annotations

import pytest

CONFTEST = """
import inspect
import sys
from pathlib import Path

import pytest


def look(item):
    assert isinstance(item, pytest.Function)
    assert isinstance(item.parent, pytest.Module)
    assert item.module.__file__ == str(item.path) == str(item.fspath)
    assert Path(inspect.getfile(item.module)).name == "task.toml"
    assert inspect.getsource(item.module) == Path(item.path).read_text()
    assert inspect.getsourcefile(item.module)
    assert item.module.__name__ and item.module.__doc__
    assert item.module.__package__ is not None
    assert getattr(item.module, item.originalname) is item.obj is item.function
    assert getattr(item.module, item.function.__name__) is item.function
    assert inspect.ismodule(item.module) and inspect.isfunction(item.function)
    assert inspect.getmodule(item.function).__file__
    assert sys.modules[item.function.__module__]
    assert inspect.getsource(item.function)
    # Reporters show a docstring as what the test is about.
    assert item.function.__doc__ is None
    assert Path(inspect.getfile(item.function)).is_file()
    assert inspect.signature(item.obj) and item.obj.__qualname__
    assert (item.cls, item.instance) == (None, None)
    assert item.name.partition("[")[0] == item.originalname
    assert item.location[0].endswith("task.toml") and item.location[2]
    assert item.reportinfo()[0] == item.path
    assert [mark.name for mark in item.own_markers] == ["harbor"]
    assert "harbor" in item.keywords and item.name in item.keywords
    assert item.get_closest_marker("harbor")
    assert item.listnames()[-1] == item.name
    assert item.getparent(pytest.Module) is item.parent and item.getparent(pytest.Class) is None
    assert item.getparent(pytest.Session) is item.session
    assert item.fixturenames and item.nodeid and item.stash is not None and not hasattr(item, "callspec")
    for node in item.listchain():
        assert repr(node) and node.path
        assert hasattr(node, "obj") == isinstance(node, (pytest.Module, pytest.Function))
    item.obj.__dict__.get("anything")
    # Some plugins forget the function so that pytest looks it up again.
    item._obj = None
    assert item.obj is item.function


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        look(item)


def pytest_runtest_setup(item):
    look(item)


def pytest_runtest_logreport(report):
    assert report.location[0].endswith("task.toml")


@pytest.fixture(autouse=True)
def looks(request):
    assert request.module is request.node.module and request.function is request.node.function
    assert Path(request.module.__file__).name == request.path.name == Path(request.fspath).name == "task.toml"
    assert request.cls is request.instance is None
    assert getattr(request.module, "WHATEVER", None) is None
    assert request.keywords and request.config.rootpath


@pytest.fixture(scope="module", autouse=True)
def module(request):
    assert request.module.__file__ == str(request.path) == str(request.node.path)
    yield


@pytest.fixture(scope="package", autouse=True)
def package(request):
    yield request.node


@pytest.fixture(scope="class", autouse=True)
def a_class(request):
    assert request.cls is None
    yield
"""


@pytest.mark.parametrize("attempts", [1, 2])
def test_every_question_has_an_answer(project, attempts):
    project.rewards(a=1.0, b=1.0)
    for name in "ab":
        project.file(f"tb2/{name}/task.toml", 'schema_version = "1.1"\n')
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + CONFTEST)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", f"--harbor-attempts={attempts}")
    assert outcome.counts == {"passed": 2 * attempts}, outcome
    outcome.shows_no_bug()


@pytest.mark.parametrize("name", ["pytestmark", "setup_module", "__file__", "pytest_plugins", "run_task"])
def test_task_with_the_name_of_something_special(project, name):
    project.rewards(**{name: 1.0})
    assert project.run("--harbor-dataset=tb2", "--harbor-agent=nop").counts == {"passed": 1}


def test_a_task_that_is_not_utf_8(project):
    project.task("tb2/a", b'name = "\xff"\n')
    project.file("conftest.py", "def pytest_collection_modifyitems(items): print(items[0].module.__file__)\n")
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop").shows_no_bug()
