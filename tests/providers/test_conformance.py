"""The contract of the provider protocol, checked on every provider."""

import contextlib
import json
import os
import secrets
import threading
import time

import pytest

from pytest_harbor.environment import Resources, StartRequest, Upload
from pytest_harbor.environment.proxies import host_proxies
from pytest_harbor.errors import CannotExecute, EnvironmentLost, ImageError, InfrastructureError, StartError


def output_of(environment, command, **how):
    result = environment.exec(command, **how)
    assert result.exit_code == 0, result.output
    return result.output


# Commands.


def test_output_and_exit_code(shared_environment):
    result = shared_environment.exec("echo out; echo err >&2; exit 7")
    assert (result.exit_code, result.output, result.timed_out) == (7, "out\nerr\n", False)


def test_argv_is_not_a_shell_line(shared_environment):
    assert output_of(shared_environment, ["printf", "%s|", "a b", "$HOME", "*"]) == "a b|$HOME|*|"


def test_binary_output_without_newline(shared_environment):
    pieces = []
    shared_environment.exec(r"printf 'a\000\377b'", output=pieces.append)
    assert b"".join(pieces) == b"a\0\xffb"


def test_large_output_is_streamed_whole_but_kept_bounded(shared_environment):
    seen = [0]

    def count(data):
        seen[0] += len(data)

    result = shared_environment.exec("head -c 5000000 /dev/zero", output=count)
    assert seen[0] == 5_000_000
    assert len(result.output) < 2_000_000


def test_output_streams_while_the_command_runs(environment):
    received = threading.Event()
    running = threading.Thread(
        target=environment.exec,
        args=("echo now; until [ -e /tmp/go ]; do sleep 0.05; done",),
        kwargs={"output": lambda _: received.set()},
    )
    running.start()
    assert received.wait(10)
    environment.exec("touch /tmp/go")
    running.join(10)
    assert not running.is_alive()


def test_environment_variables_and_home(shared_environment):
    assert (
        output_of(shared_environment, "echo $COLOR $SHAPE $SIZE $HOME", env={"SIZE": "x y"}) == "blue round x y /root\n"
    )


def test_host_variables_are_not_passed(environment, monkeypatch):
    monkeypatch.setenv("HARBOR_SECRET_OF_THE_HOST", "leaked")
    assert "leaked" not in output_of(environment, "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")


@pytest.mark.parametrize("variables", [{}, {"HTTP_PROXY": "http://own:1"}])
def test_network_proxies(provider, plain_image, tmp_path, monkeypatch, variables):
    for name in host_proxies(os.environ):
        monkeypatch.delenv(name)
    if provider.name == "docker":
        proxies = {"default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost"}}
        (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    else:
        for name, value in (("HTTP_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost")):
            monkeypatch.setenv(name, value)
    with contextlib.closing(type(provider)()) as own:
        request = StartRequest(f"harbor-test-{secrets.token_hex(5)}", "tests/task", "run", variables=variables)
        environment = own.start(plain_image, request)
        try:
            found = output_of(environment, 'echo "$HTTP_PROXY $NO_PROXY"')
        finally:
            environment.stop()
    assert found == f"{variables.get('HTTP_PROXY', 'http://proxy:3128')} localhost\n"
    assert environment.proxies["HTTP_PROXY"] == "http://proxy:3128"


def test_working_directories(shared_environment):
    assert shared_environment.workdir == "/app"
    assert output_of(shared_environment, "pwd") == "/app\n"
    assert output_of(shared_environment, "pwd", cwd="/usr/bin") == "/usr/bin\n"


def test_start_creates_missing_workdir(start, plain_image):
    assert output_of(start(plain_image, workdir="/some/where"), "pwd") == "/some/where\n"


@pytest.mark.usefixtures("many_users")
def test_users(shared_environment):
    assert output_of(shared_environment, "id -un; echo $HOME", user="worker") == "worker\n/home/worker\n"
    assert output_of(shared_environment, "id -u; id -g", user="1234") == "1234\n1234\n"
    assert output_of(shared_environment, "id -u; id -g", user="4321:99") == "4321\n99\n"
    assert output_of(shared_environment, "id -u", user="root") == "0\n"


def test_unknown_user(shared_environment):
    with pytest.raises(CannotExecute, match="nosuch"):
        shared_environment.exec("true", user="nosuch")


@pytest.mark.parametrize(
    "command,problem",
    [
        ("/no/such --flag", "no such file"),
        ("nosuchprogram", "not found"),
        ("/etc/passwd", "not executable"),
        ([], "empty"),
        pytest.param(f"echo {'word ' * 600_000}", "(?i)argument list too long", id="long"),
    ],
)
def test_cannot_execute(shared_environment, command, problem):
    with pytest.raises(CannotExecute, match=problem):
        shared_environment.exec(command)


def test_exit_127_is_not_cannot_execute(shared_environment):
    assert shared_environment.exec("nosuch_but_in_the_middle=1; nosuchprogram").exit_code == 127


@pytest.mark.parametrize(
    "line",
    [
        "nosuchprogram --version || echo went on",
        "nosuchprogram; echo went on",
        "nosuchprogram | cat; echo went on",
        "/no/such/program && false || echo went on",
        "if nosuchprogram; then false; else echo went on; fi",
        "! nosuchprogram && echo went on",
        "nosuchprogram & wait; echo went on",
        "nosuchprogram\necho went on",
        "(nosuchprogram); echo went on",
        "{ nosuchprogram || echo went on; }",
    ],
)
def test_line_that_goes_on_without_a_program(shared_environment, line):
    result = shared_environment.exec(line)
    assert result.exit_code == 0
    assert result.output.endswith("went on\n")


def test_missing_working_directory(shared_environment):
    with pytest.raises((CannotExecute, Exception), match=r"/no/such"):
        shared_environment.exec("true", cwd="/no/such")


def test_timeout_of_zero(shared_environment):
    assert shared_environment.exec("sleep 1000", timeout=0).timed_out


def test_timeout_kills_the_process_tree(environment):
    result = environment.exec("sleep 1000 & sleep 1000; true", timeout=0.5)
    assert (result.timed_out, result.exit_code) == (True, -1)
    assert result.seconds < 10
    assert "sleep 1000" not in processes(environment)


def test_background_child_does_not_block_exec(environment):
    result = environment.exec("(sleep 60; echo late) & echo early")
    assert result.output == "early\n"
    assert result.seconds < 10
    assert "sleep 60" in processes(environment)


def test_background_child_may_keep_writing(environment):
    environment.exec("(while :; do echo talk; touch /tmp/alive; sleep 0.05; done) & true")
    environment.exec("sleep 0.3; rm -f /tmp/alive; sleep 0.3; test -e /tmp/alive || exit 9")
    assert environment.exec("rm -f /tmp/alive; sleep 0.5; test -e /tmp/alive").exit_code == 0


def test_failing_prologue_prevents_the_command(environment):
    assert output_of(environment, "cat /tmp/x", prologue="echo ready >/tmp/x") == "ready\n"
    with pytest.raises(CannotExecute, match="not today"):
        environment.exec("true", prologue="echo not today; exit 1")


def test_on_start_gets_the_process(shared_environment):
    begun = []
    result = shared_environment.exec("true", on_start=begun.append)
    assert begun == [result.process]
    assert begun[0].pid > 1
    assert begun[0].started > 0


def test_concurrent_commands(shared_environment):
    results = {}

    def run(number):
        results[number] = shared_environment.exec(f"sleep 0.2; echo {number}; exit {number}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: (result.exit_code, result.output) for number, result in results.items()} == {
        number: (number, f"{number}\n") for number in range(8)
    }


# Processes.


def processes(environment):
    return output_of(
        environment, "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null", user="0"
    )


def test_kill_since(environment):
    output_of(environment, "setsid sleep 111 >/dev/null 2>&1 & true")
    # Process start times have a resolution of 10 ms.
    time.sleep(0.05)
    first = environment.exec("true").process
    output_of(environment, "setsid sleep 222 >/dev/null 2>&1 & (sleep 333 &) >/dev/null 2>&1; true", user="worker")
    assert "killed" in environment.kill_since(first)
    left = processes(environment)
    assert "sleep 111" in left
    assert "sleep 222" not in left
    assert "sleep 333" not in left


def test_kill_since_without_a_shell(environment):
    first = environment.exec("true").process
    environment.exec("setsid sleep 222 >/dev/null 2>&1 & rm -f /bin/sh")
    assert "killed" in environment.kill_since(first)
    with pytest.raises((CannotExecute, EnvironmentLost)):
        environment.exec("true")


# Files.


def test_uploads(environment, tmp_path):
    (tmp_path / "file").write_text("from the host")
    (tmp_path / "link").symlink_to("/etc/hostname")
    environment.upload(
        [
            Upload("/data", None, 0o711),
            Upload("/data/deep/er/file", tmp_path / "file", 0o640),
            Upload("/data/content", b"text", 0o755),
            Upload("/data/link", tmp_path / "link"),
        ]
    )
    expected = "711 root /data\n755 root /data/deep\n640 root /data/deep/er/file\n755 root /data/content\n"
    files = "/data /data/deep /data/deep/er/file /data/content"
    assert output_of(environment, f"stat -c '%a %U %n' {files}", user="0") == expected
    assert (
        output_of(environment, "readlink /data/link; cat /data/deep/er/file", user="0")
        == "/etc/hostname\nfrom the host"
    )


def test_upload_replaces_symlinks(environment):
    output_of(environment, "echo kept >/tmp/target; ln -s /tmp/target /app/file")
    environment.upload([Upload("/app/file", b"new")])
    assert output_of(environment, "cat /tmp/target /app/file") == "kept\nnew"


def test_large_upload(shared_environment, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(20_000_000)
    shared_environment.upload([Upload("/app/large", tmp_path / "large")])
    assert output_of(shared_environment, "stat -c %s /app/large") == "20000000\n"


def test_upload_through_symlink_stays_inside(environment, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    output_of(environment, f"ln -s {outside} /app/dir")
    with contextlib.suppress(InfrastructureError):
        environment.upload([Upload("/app/dir/file", b"text")])
    assert list(outside.iterdir()) == []


def test_downloads(environment, tmp_path):
    output_of(environment, "mkdir -p /out/sub && echo a >/out/a && echo b >/out/sub/b && ln -s /etc/passwd /out/link")
    extraction = environment.download("/out", tmp_path / "got", reserved=frozenset({"sub/b"}))
    assert (tmp_path / "got/a").read_text() == "a\n"
    assert not (tmp_path / "got/sub/b").exists()
    assert not (tmp_path / "got/link").is_symlink()
    assert extraction.files == 1
    assert any(note.startswith("link: symbolic link") for note in extraction.skipped)


def test_download_does_not_follow_a_symlink(environment, tmp_path):
    output_of(environment, "ln -s /etc /out")
    environment.download("/out", tmp_path / "got")
    assert list((tmp_path / "got").iterdir()) == []


def test_download_of_special_files(environment, tmp_path):
    output_of(
        environment,
        "mkdir /out && cd /out && mkfifo pipe && touch good 'b ad' \"$(printf 'new\\nline')\" && truncate -s 80M big",
    )
    environment.download("/out", tmp_path / "got")
    names = {path.name for path in (tmp_path / "got").iterdir()}
    assert {"good", "b ad"} <= names
    assert "pipe" not in names
    # One file is cut at 64 MB.
    assert (tmp_path / "got/big").stat().st_size == 64 * 2**20


def test_download_of_missing_path(shared_environment, tmp_path):
    with pytest.raises(FileNotFoundError):
        shared_environment.download("/no/such", tmp_path / "got")


def test_read_file(environment, tmp_path):
    output_of(environment, "echo text >/app/file; mkdir /app/dir; ln -s file /app/link")
    environment.read_file("/app/file", tmp_path / "deep/file")
    assert (tmp_path / "deep/file").read_text() == "text\n"
    for path in ("/app/dir", "/app/link", "/app/none"):
        with pytest.raises(FileNotFoundError):
            environment.read_file(path, tmp_path / "x")


# Start and stop.


def test_uploads_precede_the_entrypoint(start, build):
    image = build('FROM BASE\nCOPY --chmod=755 begin.sh /\nENTRYPOINT ["/begin.sh"]\n', **{"begin.sh": ENTRYPOINT})
    environment = start(image, uploads=[Upload("/early", b"bird\n")], variables={"SHAPE": "round"})
    assert output_of(environment, "cat /seen") == "bird\nround\n"
    assert "sleep 444" in processes(environment)


ENTRYPOINT = '#!/bin/sh\ncat /early >/seen; echo "$SHAPE" >>/seen; sleep 444 &\nexec "$@"\n'


def test_exiting_entrypoint(start, build):
    image = build('FROM BASE\nENTRYPOINT ["sh", "-c", "echo no luck; exit 3"]\n')
    with pytest.raises(StartError, match="no luck"):
        start(image)


@pytest.mark.parametrize("entrypoint", ['["/usr/bin/env", "bash"]', '["/begin.sh", "python3"]'])
def test_entrypoint_that_ends_with_an_interpreter(start, build, entrypoint):
    image = build(f"FROM BASE\nCOPY --chmod=755 begin.sh /\nENTRYPOINT {entrypoint}\n", **{"begin.sh": ENTRYPOINT})
    environment = start(image, uploads=[Upload("/early", b"bird\n")])
    assert environment.is_running()
    assert ("sleep 444" in processes(environment)) == ("begin" in entrypoint)


def test_services_survive_kill_since(start, build):
    environment = start(
        build('FROM BASE\nCOPY --chmod=755 begin.sh /\nENTRYPOINT ["/begin.sh"]\n', **{"begin.sh": ENTRYPOINT})
    )
    time.sleep(0.05)
    first = environment.exec("true").process
    environment.exec("setsid sleep 555 >/dev/null 2>&1 &")
    environment.kill_since(first)
    assert "sleep 444" in processes(environment)
    assert "sleep 555" not in processes(environment)


def test_stop_is_idempotent(environment):
    assert environment.is_running()
    environment.stop()
    environment.stop()
    with pytest.raises(EnvironmentLost):
        environment.exec("true")


def test_environments_are_isolated_from_each_other(start, plain_image):
    one, other = start(plain_image), start(plain_image)
    one.exec("echo mine >/app/file; echo mine >/tmp/file; setsid sleep 666 >/dev/null 2>&1 &")
    assert other.exec("cat /app/file /tmp/file").exit_code != 0
    assert "sleep 666" not in processes(other)


def test_remove_owned(provider, start, plain_image):
    environment = start(plain_image)
    assert environment.name not in provider.remove_owned("dead")
    assert environment.is_running()
    assert environment.name in provider.remove_owned("mine")
    assert not environment.is_running()


def test_limits_are_enforced_or_noted(start, plain_image):
    environment = start(plain_image, resources=Resources(cpus=1, memory_mb=64))
    if any("memory" in note for note in environment.notes):
        pytest.skip(environment.notes[0])
    result = environment.exec(["python3", "-c", "x = bytearray(300_000_000); print('allocated')"])
    assert result.exit_code != 0
    assert "allocated" not in result.output
    assert output_of(environment, "echo lives") == "lives\n"


# Images.


@pytest.mark.usefixtures("many_users")
def test_layers_and_stages(start, build):
    image = build(
        """
        ARG WHICH=BASE
        FROM ${WHICH} AS maker
        ARG WHO=world
        WORKDIR /made
        COPY parts/ ./
        RUN cat a b >sum && echo "hello $WHO" >>sum && ln -s sum alias
        FROM BASE
        SHELL ["/bin/bash", "-c"]
        RUN [[ 1 == 1 ]] && mkdir -p /data/old && touch /data/old/x && rm -r /data/old
        RUN mkdir /data/old && test ! -e /data/old/x
        COPY --from=maker --chown=1234:99 --chmod=640 /made/sum /data/renamed
        COPY --from=maker /made /copied/
        COPY parts/a parts/b /both/
        COPY parts/a /single
        COPY parts /tree
        ADD par*/b /tree
        USER 1234
        ENV ONE=1 TWO="a b"
        ENV THREE=$ONE$TWO
        """,
        parts__a="a\n",
        parts__b="b\n",
        parts__deep__c="c\n",
    )
    environment = start(image)
    assert output_of(environment, "stat -c '%u %g %a' /data/renamed", user="0") == "1234 99 640\n"
    assert (
        output_of(environment, "cat /copied/alias; cat /both/a /single /tree/deep/c /tree/b")
        == "a\nb\nhello world\na\na\nc\nb\n"
    )
    assert output_of(environment, "ls -A /data/old; id -u; echo $THREE") == "1234\n1a b\n"


def test_failing_run_instruction_is_named(build):
    with pytest.raises(ImageError, match=r"(?s)RUN|run.*(boom|exit code|non-zero code: 9)"):
        build("FROM BASE\nRUN echo boom && exit 9\n")


def test_missing_copy_source_is_named(build):
    with pytest.raises(ImageError, match="nosuchfile"):
        build("FROM BASE\nCOPY nosuchfile /x\n")


def test_unknown_image_is_none(provider):
    assert provider.find_image("pytest-harbor:never-built-by-anybody") is None


def test_no_network_leaves_loopback(start, plain_image):
    environment = start(plain_image, network=False)
    interfaces = environment.exec("tail -n +3 /proc/net/dev").output.split()
    assert [word for word in interfaces if word.endswith(":")] == ["lo:"]
    # Refused rather than unreachable, so loopback is up.
    output = environment.exec("exec 3<>/dev/tcp/127.0.0.1/9").output
    assert "refused" in output
    assert "unreachable" in environment.exec("exec 3<>/dev/tcp/192.0.2.1/9").output
