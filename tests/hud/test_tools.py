"""The tools bash, edit and read, with several kinds of shells on this machine."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from local_shell import HOSTILE, do, error

import pytest_harbor
from pytest_harbor.hud.tools import ShellResult, Tools
from pytest_harbor.hud.tools.scripts import FILE_LIMIT
from pytest_harbor.hud.tools.text import TEXT_LIMIT

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


# bash


def test_bash_returns_output_and_exit_code(tools):
    assert do(tools.bash("echo out; echo err >&2")) == "out\nerr\n"
    assert do(tools.bash("echo out; exit 3")) == "out\n[exit code 3]"
    assert do(tools.bash("printf no-newline; (exit 4)")) == "no-newline\n[exit code 4]"
    assert do(tools.bash("true")) == "(no output)"


def test_bash_keeps_directory_and_exported_variables(tools, work):
    do(tools.bash("mkdir -p 'a b' && cd 'a b' && export KEPT='two\nlines $x \"' LOST=1 && unset LOST GIVEN; plain=1"))
    assert do(tools.bash('printf "%s|%s|%s|%s|%s" "$PWD" "$KEPT" "${LOST-}" "${GIVEN-}" "${plain-}"')) == (
        f'{work}/a b|two\nlines $x "|||'
    )
    assert do(tools.bash("cd .. ; exit 1")) == "[exit code 1]"
    assert do(tools.bash("pwd")) == f"{work}\n"
    assert do(tools.bash("cd -")).strip() == f"{work}/a b"


def test_bash_keeps_its_state_after_any_command(tools, work):
    (work / "sub").mkdir()
    do(tools.bash("cd sub; export A=1; trap 'echo bye' EXIT; set -eux"))
    assert do(tools.bash("echo $A; pwd; unset B; echo [$B]")) == f"1\n{work}/sub\n[]\n"
    do(tools.bash("PATH=/nowhere; export PATH; cd ..; exit"))
    assert do(tools.bash("echo $PATH")) == "/nowhere\n"
    do(tools.bash(restart=True))
    assert do(tools.bash("echo ${A-none}; pwd")) == f"none\n{work}\n"


def test_bash_continues_if_its_directory_is_gone(tools, work):
    do(tools.bash("mkdir gone; cd gone; export A=1"))
    (work / "gone").rmdir()
    assert do(tools.bash("echo $A")) == f"harbor: {work}/gone no longer exists; running in {work}\n1\n"


def test_bash_runs_commands_of_any_kind(tools):
    assert do(tools.bash("cat <<'END'\n$x 'quoted'\nEND")) == "$x 'quoted'\n"
    assert do(tools.bash("-nope")).endswith("[exit code 127]")
    assert "exit code" in do(tools.bash("if true; then"))
    assert do(tools.bash("cat")) == "(no output)"
    long = "x" * 300_000
    assert do(tools.bash(f'v={long}\necho ${{#v}} "$1"')) == "300000 \n"
    assert "NUL" in error(tools.bash("echo \0"))
    assert "character" in error(tools.bash("echo \ud800"))
    assert "command" in error(tools.bash())


def test_bash_output_over_64_kib(tools):
    text = do(tools.bash("seq 100000"))
    assert text == "".join(f"{n}\n" for n in range(1, 100_001))


def test_bash_keeps_both_ends_of_very_long_output(tools):
    text = do(tools.bash("seq 400000; echo the end >&2; exit 5"))
    assert text.startswith("1\n2\n")
    assert text.endswith("400000\nthe end\n[exit code 5]")
    assert "bytes omitted" in text
    assert len(text) < TEXT_LIMIT + 200


def test_bash_timeout(tools):
    assert do(tools.bash("echo begun; sleep 60", timeout=3)) == "begun\n[killed after 3 s]"
    assert "timeout" in error(tools.bash("true", timeout=0))


def test_bash_does_not_wait_for_background_processes(tools):
    assert do(tools.bash("sleep 30 & echo $! >pid; echo done")) == "done\n"
    assert do(tools.bash("kill $(cat pid)")) == "(no output)"


def test_close_removes_the_state(tools, work):
    do(tools.bash("export A=1"))
    assert list((work / ".tmp").iterdir())
    do(tools.close())
    assert not list((work / ".tmp").iterdir())


# edit


@pytest.mark.parametrize("name", HOSTILE)
def test_edit_files_with_any_name(tools, work, name):
    file = work / "sub" / name
    assert "Created" in do(tools.edit("create", f"sub/{name}", file_text="one\ntwo\n"))
    assert "around line 2" in do(tools.edit("str_replace", f"sub/{name}", old_str="two", new_str="zwei"))
    do(tools.edit("insert", str(file), insert_line=0, new_str="zero"))
    assert file.read_text() == "zero\none\nzwei\n"
    assert do(tools.edit("view", str(file), view_range=[2, -1])) == "     2\tone\n     3\tzwei"
    assert [path.name for path in work.iterdir() if path.name != ".tmp"] == ["sub"]


def test_edit_keeps_bytes_mode_and_links(tools, work):
    file = work / "script"
    file.write_bytes(b"\xff\xfe\r\n\tkeep\x00\r\nold")
    file.chmod(0o750)
    (work / "link").symlink_to("script")
    do(tools.edit("str_replace", "link", old_str="old", new_str="new"))
    assert file.read_bytes() == b"\xff\xfe\r\n\tkeep\x00\r\nnew"
    assert file.stat().st_mode & 0o777 == 0o750
    assert (work / "link").is_symlink()


def test_edit_requires_an_exact_and_unique_match(tools, work):
    (work / "f").write_text("a\nb\na\n")
    (work / "dos").write_bytes(b"a\r\nb\r\n")
    assert "not in f" in error(tools.edit("str_replace", "f", old_str="c", new_str=""))
    assert "occurs 2 times in f (lines 1, 3)" in error(tools.edit("str_replace", "f", old_str="a", new_str=""))
    assert "\\r\\n" in error(tools.edit("str_replace", "dos", old_str="a\nb", new_str=""))
    assert "empty" in error(tools.edit("str_replace", "f", old_str="", new_str="x"))
    assert "0 to 3" in error(tools.edit("insert", "f", insert_line=4, new_str="x"))
    assert (work / "f").read_text() == "a\nb\na\n"


def test_edit_errors(tools, work):
    (work / "f").write_text("x")
    assert "already exists" in error(tools.edit("create", "f", file_text=""))
    assert "requires file_text" in error(tools.edit("create", "g"))
    assert "requires old_str" in error(tools.edit("str_replace", "f"))
    assert "does not exist" in error(tools.edit("str_replace", "g", old_str="a"))
    assert "is a directory" in error(tools.edit("insert", ".", insert_line=0, new_str="a"))
    assert "could not be written" in error(tools.edit("create", "f/g", file_text=""))
    assert "not a range" in error(tools.edit("view", "f", view_range=[2, 1]))
    assert "has 1 line" in error(tools.edit("view", "f", view_range=[2, 3]))


def test_edit_undo(tools, work):
    do(tools.edit("create", "f", file_text="1"))
    do(tools.edit("str_replace", "./f", old_str="1", new_str="2"))
    do(tools.edit("insert", "f", insert_line=1, new_str="3"))
    assert (work / "f").read_text() == "2\n3"
    for expected in ("2", "1"):
        do(tools.edit("undo_edit", "f"))
        assert (work / "f").read_text() == expected
    do(tools.edit("undo_edit", "f"))
    assert not (work / "f").exists()
    assert "no change to f" in error(tools.edit("undo_edit", "f"))


def test_edit_writes_large_files(tools, work):
    text = "ä line\n" * 300_000
    do(tools.edit("create", "large", file_text=text))
    do(tools.edit("insert", "large", insert_line=300_000, new_str="end"))
    assert (work / "large").read_text() == f"{text}end"
    (work / "huge").write_bytes(b"x" * (FILE_LIMIT + 1))
    assert "larger than 16 MiB" in error(tools.edit("str_replace", "huge", old_str="a"))


def test_concurrent_edits(tools, work):
    (work / "f").write_text("".join(f"<{n}>" for n in range(5)))

    async def change():
        await asyncio.gather(*(tools.edit("str_replace", "f", old_str=f"<{n}>", new_str=f"[{n}]") for n in range(5)))

    do(change())
    assert (work / "f").read_text() == "[0][1][2][3][4]"


def test_view_shows_two_levels_of_a_directory(tools, work):
    (work / "a/b/c").mkdir(parents=True)
    (work / "a/b/file").touch()
    (work / "a/.hidden").touch()
    assert do(tools.edit("view", "a")).splitlines() == ["a/", "  b/", "    c/", "    file"]


# read


def test_read_numbers_lines(tools, work):
    (work / "f").write_text("one\ntwo\nthree")
    assert do(tools.read("f")) == "     1\tone\n     2\ttwo\n     3\tthree"
    assert do(tools.read(str(work / "f"), offset=1, limit=1)) == "     2\ttwo\n[lines 2 to 2 of 3]"
    assert do(tools.read("f", offset=9)) == "(the file has 3 lines)"
    (work / "empty").touch()
    assert do(tools.read("empty")) == "(the file is empty)"


def test_read_truncates_long_files_and_lines(tools, work):
    (work / "lines").write_text("".join(f"{n}\n" for n in range(1, 5001)))
    assert do(tools.read("lines")).endswith("  2000\t2000\n[lines 1 to 2000 of 5000]")
    (work / "line").write_text("x" * 100_000 + "\nshort\n")
    first, second = do(tools.read("line")).splitlines()
    assert first == f"     1\t{'x' * 2000} [... 100,000 bytes in total]"
    assert second == "     2\tshort"
    (work / "wide").write_text(("y" * 1999 + "\n") * 2000)
    assert "[lines 1 to 524 of 2000]" in do(tools.read("wide"))


def test_read_files_that_are_not_text(tools, work):
    (work / "image").write_bytes(PNG)
    (work / "binary").write_bytes(b"\x00\x01")
    assert do(tools.read("image")) == (PNG, "image/png")
    assert "not a text file (2 bytes)" in error(tools.read("binary"))
    assert "is a directory; use list" in error(tools.read("."))
    assert "does not exist" in error(tools.read("gone"))
    os.mkfifo(work / "pipe")
    assert "not a regular file" in error(tools.read("pipe"))
    assert "NUL" in error(tools.read("a\0b"))
    assert "empty" in error(tools.read(""))


def test_noise_before_the_output_is_ignored(tools, work):
    async def noisy(script, stdin, timeout):
        result = await tools._shell(script, stdin, timeout)
        return ShellResult(result.exit_code, b"sh: warning: setlocale\n" + result.output)

    (work / "f").write_text("text\n")
    assert do(Tools(noisy).read("f")) == "     1\ttext"
    assert do(Tools(noisy).glob("*")) == "f"


def test_the_modules_need_only_the_standard_library(tmp_path):
    texts = ["from __future__ import annotations\n"]
    for module in ("_util/text", "hud/tools/shell", "hud/tools/scripts", "hud/tools/text", "hud/tools/tools"):
        text = (Path(pytest_harbor.__file__).parent / f"{module}.py").read_text()
        text = text.replace("from __future__ import annotations\n", "")
        texts.append(re.sub(r"^from pytest_harbor\S+ import (\(.*?\)|.*?)\n", "", text, flags=re.MULTILINE | re.DOTALL))
    copy = tmp_path / "standing_alone.py"
    copy.write_text("\n".join([*texts, "print(Tools.bash.__name__)\n"]))
    ran = subprocess.run([sys.executable, "-I", "-S", copy], capture_output=True, text=True, check=True)
    assert ran.stdout == "bash\n"
