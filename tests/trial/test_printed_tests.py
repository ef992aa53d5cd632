"""The tests of a verifier, counted from what pytest and unittest print."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.printed_tests import read_printed_tests

NAME = "verifier/test-stdout.txt"


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> InnerTests | None:
        (tmp_path / "verifier").mkdir(exist_ok=True)
        (tmp_path / NAME).write_text(text, encoding="utf-8")
        return read_printed_tests(tmp_path, NAME)

    return read


PYTEST = """
import pytest
def test_good(): pass
def test_bad(): assert 1 == 2, "no rows"
@pytest.mark.skip
def test_skipped(): pass
@pytest.fixture
def broken(): raise ValueError("x")
def test_broken(broken): pass
"""
UNITTEST = """
import unittest
class T(unittest.TestCase):
    def test_good(self): pass
    def test_bad(self): self.assertEqual(1, 2)
    @unittest.skip("why")
    def test_skipped(self): pass
    def test_broken(self): raise ValueError
unittest.main()
"""


@pytest.mark.parametrize("words", [(), ("-q",), ("-rA", "--color=yes"), ("-v", "--no-header")])
def test_output_of_pytest(read, tmp_path, words):
    (tmp_path / "test_it.py").write_text(PYTEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "test_it.py", *words]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    tests = read(output + "cleaning up\n")
    assert (tests.passed, tests.failed, tests.skipped, tests.total) == (1, 2, 1, 4)
    assert tests.from_output
    assert sorted(failure.name.rpartition("::")[2] for failure in tests.failures) == ["test_bad", "test_broken"]


def test_output_of_unittest(read, tmp_path):
    (tmp_path / "it.py").write_text(UNITTEST)
    output = subprocess.run([sys.executable, "it.py"], cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    tests = read(output)
    # unittest of Python 3.12.0 and 3.12.1 does not count skipped tests among those that it ran.
    passed = 0 if (3, 12) <= sys.version_info < (3, 12, 2) else 1
    assert (tests.passed, tests.failed, tests.skipped, tests.total) == (passed, 2, 1, passed + 3)
    assert len(tests.failures) == 2
    assert tests.failures[0].name.startswith("test_b")


@pytest.mark.parametrize(
    "line, counts",
    [
        ("=== 5 failed in 0.12s ===", (0, 5, 0, 0)),
        ("5 passed, 1 warning in 61.20s (0:01:01)", (5, 0, 0, 0)),
        ("\x1b[31m===== \x1b[1m1 failed\x1b[0m, 2 passed, 1 xfailed in 0.10s =====\x1b[0m", (2, 1, 0, 1)),
        ("1 passed, 3 deselected in 2 seconds", (1, 0, 0, 0)),
    ],
)
def test_last_line_of_pytest(read, line, counts):
    tests = read(f"3 passed in 0.01s\n{line}\n")
    assert (tests.passed, tests.failed, tests.skipped, tests.other) == counts


def test_message_of_a_failure(read):
    line = "FAILED tests/test_x.py::test_a[x - y] - AssertionError: assert 1 == 2"
    tests = read(f"{line}\nFAILED tests/test_x.py::test_b\n2 failed in 0.1s\n")
    assert tests.failures[1] == InnerTest("tests/test_x.py::test_b", "")
    assert tests.failures[0].name.startswith("tests/test_x.py::test_a[x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        "no tests ran in 0.01s\n",
        "2 rows in 3s\n",
        "Ran 0 tests in 0.000s\n\nOK\n",
        "Ran 2 tests in 1s\n",
    ],
)
def test_other_output(read, text):
    assert read(text) is None


def test_no_file(tmp_path):
    assert read_printed_tests(tmp_path, NAME) is None
