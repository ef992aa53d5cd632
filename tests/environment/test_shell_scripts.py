"""The scripts that run inside environments, run here under /bin/sh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util.process import is_alive, process_token
from pytest_harbor.environment import Process
from pytest_harbor.environment.shell_scripts import (
    READY,
    OutputParser,
    first_word,
    kill_command,
    launch_command,
    parse_header,
)
from pytest_harbor.errors import CannotExecute

END = "d41d8cd9"


@pytest.mark.parametrize("command", [[], "echo \0", ["echo", "a\0"]])
def test_no_system_can_start_it(command):
    with pytest.raises(CannotExecute) as caught:
        launch_command(command, END)
    assert caught.value.exit_code == 126


class Parsed:
    """The output of a script, parsed as a provider does."""

    def __init__(self, process: subprocess.CompletedProcess) -> None:
        self.output = b""
        self.started_processes: list[Process] = []
        self.parser = OutputParser(END, self._add, self.started_processes.append)
        self.parser.feed(process.stdout)
        self.parser.close()
        self.raw = process.stdout
        self.returncode = process.returncode

    def _add(self, data: bytes) -> None:
        self.output += data


def run(command, prologue: str = "", **options) -> Parsed:
    return run_argv(launch_command(command, END, prologue), **options)


def run_argv(argv: list[str], **options) -> Parsed:
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = subprocess.run(argv, check=False, **options)
    assert process.stderr == b"", "all output goes to one stream"
    return Parsed(process)


@pytest.mark.parametrize(
    "command, output, code",
    [
        ("echo out; echo err >&2; exit 3", b"out\nerr\n", 3),
        ("printf 'no newline'", b"no newline", 0),
        ("true", b"", 0),
        ("printf '\\n\\n'", b"\n\n", 0),
        ("kill -9 $$", None, 137),
        ("exit 127", b"", 127),
        ("exit 126", b"", 126),
        ("true; no-such-command-at-all || exit 9", None, 9),
        ("echo \"$0 $1\"; echo 'q'\"'\"'q' $((1 + 1))", None, 0),
        ("echo a\necho b", b"a\nb\n", 0),
        (["printf", "%s|", "a b", "", "$HOME", "*", "'"], b"a b||$HOME|*|'|", 0),
        (["/bin/sh", "-c", "exit 4"], b"", 4),
        (["printf", "%s", "-n"], b"-n", 0),
    ],
)
def test_output_and_exit_code(command, output, code):
    result = run(command)
    assert result.parser.exit_code == code
    assert result.returncode == code
    if output is not None:
        assert result.output == output
    assert result.started_processes == [result.parser.process]


def test_header_names_the_process():
    result = run("echo x")
    first, second, _ = result.raw.split(b"\n", 2)
    assert second == READY
    assert parse_header(first) == result.parser.process
    assert result.parser.process.pid > 1
    assert result.parser.process.started > 0


def test_process_is_an_ancestor_of_the_command():
    argv = launch_command(["/bin/sh", "-c", "read -r _ _ _ parent _ </proc/self/stat; echo $PPID $parent"], END)
    result = run_argv(argv)
    assert str(result.parser.process.pid).encode() in result.output.split()


@pytest.mark.parametrize(
    "command, start_error, code",
    [
        ("no-such-command-at-all --flag", "no-such-command-at-all: command not found in PATH=", 127),
        (["no-such-command-at-all"], "command not found in PATH=", 127),
        ("/no/such/file x", "/no/such/file: no such file", 127),
        ("{tmp}", "is a directory", 126),
        ("{tmp}/plain", "plain: not executable", 126),
        ("{tmp}/orphan.sh arg", "orphan.sh: its interpreter /no/such/interpreter is missing", 126),
        (["{tmp}/orphan-env.sh"], "its interpreter /no/such/env is missing", 126),
        ("{tmp}/crlf.sh", "crlf.sh: its lines end with CRLF", 126),
        ("{tmp}/crlf.sh", "dos2unix", 126),
        (["{tmp}/crlf-env.sh"], "its lines end with CRLF", 126),
        ("{tmp}/bom.sh", "bom.sh: a byte order mark hides its interpreter", 126),
        ("{tmp}/dangling", "dangling: no such file", 127),
    ],
)
def test_commands_that_cannot_start(tmp_path, command, start_error, code):
    if "plain" in command and os.access(__file__, os.X_OK):
        pytest.skip("on this file system, every file is executable")
    (tmp_path / "plain").write_text("echo ran\n")
    for name, first in {
        "orphan.sh": "#!/no/such/interpreter -x",
        "orphan-env.sh": "#! /no/such/env python",
        "crlf.sh": "#!/bin/sh\r",
        "crlf-env.sh": "#!/usr/bin/env -S python3 -u\r",
        "bom.sh": "\ufeff#!/bin/sh",
    }.items():
        (tmp_path / name).write_bytes(f"{first}\necho ran\n".encode())
        (tmp_path / name).chmod(0o755)
    (tmp_path / "dangling").symlink_to("nowhere")
    words = [command] if isinstance(command, str) else command
    words = [word.replace("{tmp}", str(tmp_path)) for word in words]
    result = run(words[0] if isinstance(command, str) else words)
    assert not result.parser.started
    assert result.started_processes == []
    assert start_error in result.parser.start_error
    assert (result.returncode, result.parser.exit_code) == (code, None)
    assert b"ran" not in result.raw


def test_script_with_interpreter_arguments_and_binary(tmp_path):
    script = tmp_path / "ok.sh"
    script.write_text("#! /bin/sh -e\necho ran\n")
    script.chmod(0o755)
    assert run(str(script)).output == b"ran\n"
    assert run([sys.executable, "-c", "print('ran')"]).output == b"ran\n"


def test_script_without_an_interpreter_runs_in_the_shell(tmp_path):
    script = tmp_path / "bare"
    script.write_text("echo ran\n")
    script.chmod(0o755)
    assert run(str(script)).output == b"ran\n"


def test_relative_path_is_relative_to_the_working_directory(tmp_path):
    (tmp_path / "x.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "x.sh").chmod(0o755)
    assert run("./x.sh", cwd=tmp_path).output == b"ran\n"
    assert "no such file" in run("./x.sh", cwd="/").parser.start_error
    (tmp_path / "x.sh").write_bytes(b"#!/bin/sh\r\necho ran\r\n")
    assert "its lines end with CRLF" in run("./x.sh", cwd=tmp_path).parser.start_error


def test_exit_127_is_not_command_not_found():
    assert run("sh -c 'exit 127'").parser.exit_code == 127
    result = run("true && no-such-command-at-all")
    assert (result.parser.started, result.parser.exit_code) == (True, 127)


def test_prologue_runs_first_with_system_path(tmp_path):
    trap = tmp_path / "mkdir"
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    target = tmp_path / "made"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = run(f"ls -d {target}; mkdir", f"mkdir {target}", env=environment)
    assert result.output == f"{target}\ntrapped\n".encode()
    assert target.is_dir()


@pytest.mark.parametrize(
    "prologue", ["echo why >&2; exit 1", "echo why; false", "echo why; exit 7", "echo why; no-such-command-at-all"]
)
def test_failing_prologue_prevents_the_command(prologue):
    result = run("echo ran", prologue)
    assert not result.parser.started
    assert "the prologue failed: why" in result.parser.start_error
    assert result.returncode == 126
    assert b"ran" not in result.raw


def test_prologue_does_not_affect_the_command(tmp_path):
    result = run('echo "$X-$PWD"', "X=1; cd /", cwd=tmp_path)
    assert result.output == f"-{tmp_path}\n".encode()


def test_end_is_reported_while_a_child_holds_the_output_open():
    with subprocess.Popen(
        launch_command("sleep 60 & echo $!; exit 5", END), stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        output = []
        parser = OutputParser(END, output.append)
        while parser.exit_code is None:
            data = os.read(process.stdout.fileno(), 4096)
            assert data, "the output ended without an end marker"
            parser.feed(data)
        assert parser.exit_code == 5
        os.kill(int(b"".join(output)), 9)


def test_command_cannot_forge_the_end_marker():
    result = run("printf '\\nharbor: end 0000 0\\n'; echo more; exit 3")
    assert result.parser.exit_code == 3
    assert result.output == b"\nharbor: end 0000 0\nmore\n"


HEADER = b"12 (sh) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0\nharbor: ready\n"


@given(st.binary(max_size=60), st.lists(st.integers(1, 30), min_size=1))
def test_pieces_of_any_size(output, sizes):
    whole = HEADER + output + f"\nharbor: end {END} 42\n".encode()
    got, started = [], []
    parser = OutputParser(END, got.append, started.append)
    position = 0
    while position < len(whole):
        size = sizes[len(got) % len(sizes)]
        parser.feed(whole[position : position + size])
        position += size
    parser.feed(b"dropped")
    parser.close()
    assert b"".join(got) == output
    assert parser.exit_code == 42
    assert started == [Process(12, 777)]


def test_only_a_possible_end_marker_is_held_back():
    got = []
    parser = OutputParser(END, got.append)
    parser.feed(HEADER + b"one\n")
    assert b"".join(got) == b"one"
    parser.feed(b"two\nharbor:")
    assert b"".join(got) == b"one\ntwo"
    parser.feed(b" no\n")
    parser.close()
    assert b"".join(got) == b"one\ntwo\nharbor: no\n"
    assert parser.exit_code is None


def test_output_without_a_header_is_bounded():
    parser = OutputParser(END, lambda data: None)
    for _ in range(100):
        parser.feed(b"x" * 100_000)
    assert len(parser._pending) <= OutputParser.HEADER_LIMIT
    assert not parser.started


@pytest.mark.parametrize(
    "line, process",
    [
        (b"12 (sh) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0", Process(12, 777)),
        (b"12 (a) b (c) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0", Process(12, 777)),
        (b"", None),
        (b"harbor: /proc cannot be read", None),
        (b"12 (sh) S 1", None),
        (b"x (sh) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0", None),
    ],
)
def test_parse_header(line, process):
    assert parse_header(line) == process


@pytest.mark.parametrize(
    "line, word",
    [
        ("python /agent/run.py", "python"),
        ("  spaced   out", "spaced"),
        ("/abs/path --flag", "/abs/path"),
        ("./rel", "./rel"),
        ("'quoted' x", "quoted"),
        ("'quoted name' x", "quoted name"),
        # A list, a pipeline or a compound command may provide for a program that is missing.
        ("one && two", ""),
        ("one || two", ""),
        ("one; two", ""),
        ("one|two", ""),
        ("one &", ""),
        ("one\ntwo", ""),
        ("one <<EOF\ntext\nEOF\ntwo", ""),
        ("one <<EOF && two\ntext\nEOF", ""),
        ("if one; then two; fi", ""),
        ("one() { two; }; one", ""),
        # A simple command has redirections, quoted text, substitutions and here-documents.
        ("one>file", "one"),
        ("one 'a; b' \"c || d\" e\\;f 2>&1 </dev/null &>>log", "one"),
        ("one ''", "one"),
        ("one \\\n  --two\n", "one"),
        ("one 'first\nsecond'", "one"),
        ('one "$(cat file; ls)"', "one"),
        ("one $(cat file | head; (ls)) two", "one"),
        ("one $(cat file) || two", ""),
        ("one - <<'EOF'\ntext; text\nEOF\n", "one"),
        ("#comment", ""),
        ("", ""),
        ("   ", ""),
        ("X=1 Y='a b' run --now", "run"),
        ("X=1", ""),
        ("X=$(cat file) run", ""),
        ("X=1 run || two", ""),
        ("X=1; run", ""),
        ("PATH=/opt/bin:$PATH run", ""),
        ("cd /agent && run", "run"),
        ("cd /agent; X=1 run --now", "run"),
        ("cd /agent && /abs/run", "/abs/run"),
        ("cd /agent && ./run", ""),
        ("cd /agent && one && two", ""),
        ("cd /agent || run", ""),
        ("cd /agent", "cd"),
        ("$CMD x", ""),
        ("$(which x)", ""),
        ("`x`", ""),
        ("~/bin/x", ""),
        ("*.sh", ""),
        ("(subshell)", ""),
        ("{ group; }", ""),
        ("! not", ""),
        (">file", ""),
        ("'unclosed", ""),
        ("a\\ b", ""),
        ("pre'fix'ed", ""),
        ("\u65e5\u672c x", "\u65e5\u672c"),
        pytest.param(f"cat <<'EOF' >file\n{'text ' * 600_000}\nEOF\nls", "", id="a long script"),
    ],
)
def test_first_word(line, word):
    assert first_word(line) == word


@pytest.mark.parametrize(
    "line",
    [
        "cd /tmp && exit 6",
        ". /dev/null; exit 6",
        "if true; then exit 6; fi",
        "while true; do exit 6; done",
        "case x in x) exit 6;; esac",
        "f() { exit 6; }; f",
        "exec sh -c 'exit 6'",
        "[ 1 = 1 ] && exit 6",
        "X=1 sh -c 'exit 6'",
        "! true || exit 6",
        "set -e; exit 6",
        ": && exit 6",
        "export A=1; exit 6",
    ],
)
def test_keywords_and_builtins_are_found(line):
    assert run(line).parser.exit_code == 6


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_line_runs_in_bash():
    assert run("[[ a == a ]] && a=(1 2) && echo ${a[1]}").output == b"2\n"
    assert run("source /dev/null && echo fine").output == b"fine\n"
    assert run("pushd / >/dev/null && pwd").output == b"/\n"


def test_line_runs_in_sh_without_bash(tmp_path):
    for name in ("sh", "echo", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name))
    assert run("echo $BASH_VERSION.; exit 2", env={"PATH": str(tmp_path)}).output == b".\n"


def test_path_without_programs():
    assert "command not found in PATH=/nowhere" in run("cat", env={"PATH": "/nowhere"}).parser.start_error


TREE = """
import os, signal, sys
def child():
    pid = os.fork()
    if pid: return pid
    os.write(1, b"%d\\n" % os.getpid())
    while True: signal.pause()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
os.write(1, b"%d\\n" % os.getpid())
child()
if not os.fork():
    child()
    os.setsid()
    child()
    while True: signal.pause()
child()
while True: signal.pause()
"""


def test_kill_below_kills_only_the_whole_tree():
    # "since" cannot run here: it would kill this machine's own processes.
    with (
        subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True) as root,
        subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
    ):
        other.stdout.readline()
        pids = [int(root.stdout.readline()) for _ in range(5)]
        tokens = [process_token(pid) for pid in pids]
        assert all(is_alive(token) for token in tokens)
        result = run_argv(kill_command("below", root.pid, END))
        assert result.parser.exit_code == 0, result.raw
        assert not any(is_alive(token) for token in tokens)
        assert other.poll() is None
        other.stdin.close()


def test_kill_below_a_process_that_is_gone():
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    result = run_argv(kill_command("below", gone.pid, END))
    assert result.parser.exit_code == 0
    assert b"none left" in result.output


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_create_namespace() -> bool:
    """Return True if a process namespace can be created, in which no process of this machine can be killed."""
    if not shutil.which("unshare"):
        return False
    result = subprocess.run([*NAMESPACE, "sh", "-c", "echo $$"], capture_output=True, check=False)
    return result.stdout == b"1\n"


@pytest.mark.skipif(
    not can_create_namespace(), reason="cannot create a process namespace (needs root or user namespaces)"
)
def test_kill_since_kills_only_newer_processes():
    # The shell is process 1 and a service is older than the mark: both must survive, and the killer itself too.
    script = r"""
      sleep 1000 & service=$!
      until read -r stat </proc/$service/stat; do :; done
      # A tick takes 10 ms: wait for a later one, so that the next processes are newer than the service.
      while :; do
        sh -c 'read -r stat </proc/self/stat; set -- ${stat##*) }; shift 19; echo $1' >/tick
        read -r now </tick
        set -- ${stat##*) }; shift 19
        [ "$now" -gt "$1" ] && break
      done
      sleep 2000 & newer=$!
      setsid sleep 3000 &
      /bin/sh -c "$KILLER" sh since "$now" END
      echo "code $?"
      [ -e /proc/$service/stat ] && echo service lives
      for dir in /proc/[0-9]*; do [ $dir = /proc/1 ] || tr '\0' ' ' <$dir/cmdline; echo; done
      kill -9 $service
    """.replace("/tick", "$TICK")
    killer = kill_command("since", 0, "END")[2]
    file = f"/tmp/harbor-tick-{os.getpid()}"
    try:
        result = subprocess.run(
            [*NAMESPACE, "sh", "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, "TICK": file, "KILLER": killer},
            timeout=60,
            check=False,
        )
    finally:
        Path(file).unlink(missing_ok=True)
    assert "code 0" in result.stdout, result
    assert "service lives" in result.stdout
    assert "sleep 1000" in result.stdout
    assert "sleep 2000" not in result.stdout
    assert "sleep 3000" not in result.stdout
