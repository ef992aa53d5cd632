"""The tools grep, glob and list, with several kinds of shells on this machine."""

import pytest
from local_shell import HOSTILE, do, error


@pytest.fixture
def tree(work):
    for name in HOSTILE:
        (work / name).write_text("needle here\n")
    (work / "src/deep/er").mkdir(parents=True)
    (work / "src/a.py").write_text("first\nneedle = 1\n")
    (work / "src/deep/er/b.ts").write_text("a needle: b\n" * 3)
    (work / "src/deep/c.bin").write_bytes(b"needle\0\n")
    (work / ".git").mkdir()
    (work / ".git/config").write_text("needle\n")
    (work / ".hidden").write_text("nothing\n")
    return work


def test_grep_files_with_any_name(tools, tree):
    found = do(tools.grep("needle|nothing"))
    for name in HOSTILE:
        shown = name.replace("\n", "\\n")
        assert f"\n\n{shown}:\n     1\tneedle here" in f"\n\n{found}"
    assert "src/a.py:\n     2\tneedle = 1" in found
    assert "src/deep/er/b.ts:\n     1\ta needle: b\n     2\ta needle: b" in found
    assert "src/deep/c.bin" in found
    assert ".hidden:\n     1\tnothing" in found
    assert ".git" not in found
    assert not (tree / "pwned").exists()


def test_grep_path_and_include(tools, tree):
    assert do(tools.grep("needle", path="src", include="*.{py,js}")) == "src/a.py:\n     2\tneedle = 1"
    assert do(tools.grep("needle", include="src/**/*.ts")).startswith("src/deep/er/b.ts:")
    assert do(tools.grep("needle", path=str(tree / "src/a.py"))) == f"{tree}/src/a.py:\n     2\tneedle = 1"
    assert do(tools.grep("needle", path="src/a.py")) == "src/a.py:\n     2\tneedle = 1"
    assert do(tools.grep("needle", path="new\nline.txt")) == "new\\nline.txt:\n     1\tneedle here"
    assert do(tools.grep("needle", path=".git")) == ".git/config:\n     1\tneedle"
    assert do(tools.grep("^-x", include="*.py")) == "No matches."
    assert "does not exist" in error(tools.grep("needle", path="gone"))
    assert "grep:" in error(tools.grep("(unclosed"))


def test_grep_is_bounded(tools, work):
    (work / "many").write_text("hit\n" * 5000)
    found = do(tools.grep("hit"))
    assert found.count("hit") == 1000
    assert "[truncated: " in found


def test_glob_finds_files(tools, tree):
    assert do(tools.glob("**/*.py")) == "src/a.py"
    assert do(tools.glob("src/*")) == "src/a.py"
    assert do(tools.glob("src/**")).splitlines() == ["src/a.py", "src/deep/c.bin", "src/deep/er/b.ts"]
    assert do(tools.glob("**/[!a].{ts,bin}", path=str(tree / "src"))).splitlines() == [
        f"{tree}/src/deep/c.bin",
        f"{tree}/src/deep/er/b.ts",
    ]
    assert do(tools.glob("src/a.py")) == "src/a.py"
    assert do(tools.glob("?ew*.txt")) == "new\\nline.txt"
    assert do(tools.glob(f"{tree}/*/d*/c.*")) == f"{tree}/src/deep/c.bin"
    assert do(tools.glob("*.none")) == "No files found."
    assert "does not exist" in error(tools.glob("*", path="gone"))
    assert "is not a directory" in error(tools.glob("*", path="src/a.py"))


def test_list_draws_a_tree(tools, tree):
    assert do(tools.list("src", ignore=["*.bin", "deep/er/"])).splitlines() == ["src/", "  a.py", "  deep/"]
    lines = do(tools.list()).splitlines()
    assert lines[0] == "./"
    assert "  new\\nline.txt" in lines
    assert "      b.ts" in do(tools.list("src")).splitlines()
    assert not any(".git" in line for line in lines)
    (tree / "empty").mkdir()
    assert do(tools.list("empty")) == "empty is empty."
    assert "is not a directory" in error(tools.list("-rf"))


def test_list_omits_the_deepest_levels_of_a_large_tree(tools, work):
    for name in range(40):
        (work / f"{name:02}" / "in").mkdir(parents=True)
        for file in range(40):
            (work / f"{name:02}" / "in" / str(file)).touch()
    lines = do(tools.list(ignore=[".tmp"])).splitlines()
    assert lines[1:4] == ["  00/", "    in/", "  01/"]
    assert lines[-1].startswith("[1,600 more entries;")


def test_searches_of_the_root_skip_the_kernels_trees(tools):
    assert "/proc" not in do(tools.glob("/*/version"))
    assert "does not exist" not in do(tools.glob("/proc/vers*"))
