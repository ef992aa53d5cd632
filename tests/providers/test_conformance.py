"""What every provider promises, run over each of them."""

import contextlib
import threading
import time

import pytest

from pytest_harbor.environment import Resources, Upload
from pytest_harbor.errors import CannotExecute, EnvironmentLost, ImageError, InfrastructureError, StartError


def said(environment, command, **how):
    result = environment.exec(command, **how)
    assert result.exit_code == 0, result.output
    return result.output


# Commands.


def test_output_and_exit_code(environment):
    result = environment.exec("echo out; echo err >&2; exit 7")
    assert (result.exit_code, result.output, result.timed_out) == (7, "out\nerr\n", False)


def test_words_are_not_a_line(environment):
    assert said(environment, ["printf", "%s|", "a b", "$HOME", "*"]) == "a b|$HOME|*|"


def test_output_without_a_newline_and_binary_output(environment):
    pieces = []
    environment.exec(r"printf 'a\000\377b'", output=pieces.append)
    assert b"".join(pieces) == b"a\0\xffb"


def test_much_output_is_complete_and_bounded_in_the_result(environment):
    seen = [0]

    def count(data):
        seen[0] += len(data)

    result = environment.exec("head -c 5000000 /dev/zero", output=count)
    assert seen[0] == 5_000_000
    assert len(result.output) < 2_000_000


def test_output_comes_while_the_command_runs(environment):
    came = threading.Event()
    running = threading.Thread(
        target=environment.exec,
        args=("echo now; until [ -e /tmp/go ]; do sleep 0.05; done",),
        kwargs={"output": lambda _: came.set()},
    )
    running.start()
    assert came.wait(10)
    environment.exec("touch /tmp/go")
    running.join(10)
    assert not running.is_alive()


def test_variables_and_home(environment):
    assert said(environment, "echo $COLOR $SHAPE $SIZE $HOME", env={"SIZE": "x y"}) == "blue round x y /root\n"


def test_nothing_of_the_hosts_variables(environment, monkeypatch):
    monkeypatch.setenv("HARBOR_SECRET_OF_THE_HOST", "told")
    assert "told" not in said(environment, "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")


def test_working_directories(environment):
    assert environment.workdir == "/app"
    assert said(environment, "pwd") == "/app\n"
    assert said(environment, "pwd", cwd="/usr/bin") == "/usr/bin\n"


def test_a_working_directory_that_is_missing_is_made_at_the_start(start, plain_image):
    assert said(start(plain_image, workdir="/some/where"), "pwd") == "/some/where\n"


@pytest.mark.usefixtures("many_users")
def test_users(environment):
    assert said(environment, "id -un; echo $HOME", user="worker") == "worker\n/home/worker\n"
    assert said(environment, "id -u; id -g", user="1234") == "1234\n1234\n"
    assert said(environment, "id -u; id -g", user="4321:99") == "4321\n99\n"
    assert said(environment, "id -u", user="root") == "0\n"


def test_a_user_that_does_not_exist(environment):
    with pytest.raises(CannotExecute, match="nosuch"):
        environment.exec("true", user="nosuch")


@pytest.mark.parametrize(
    "command,problem",
    [("/no/such --flag", "no such file"), ("nosuchprogram", "not found"), ("/etc/passwd", "not executable")],
)
def test_what_cannot_be_started(environment, command, problem):
    with pytest.raises(CannotExecute, match=problem):
        environment.exec(command)


def test_a_script_that_ends_with_127_is_none_that_cannot_be_started(environment):
    assert environment.exec("nosuch_but_in_the_middle=1; nosuchprogram").exit_code == 127


def test_a_missing_working_directory(environment):
    with pytest.raises((CannotExecute, Exception), match=r"/no/such"):
        environment.exec("true", cwd="/no/such")


def test_a_timeout_kills_the_command_and_all_below_it(environment):
    result = environment.exec("sleep 1000 & sleep 1000; true", timeout=0.5)
    assert (result.timed_out, result.exit_code) == (True, -1)
    assert result.seconds < 10
    assert "sleep 1000" not in processes(environment)


def test_a_child_that_holds_the_output_open_does_not_hold_the_command(environment):
    result = environment.exec("(sleep 60; echo late) & echo early")
    assert result.output == "early\n"
    assert result.seconds < 10
    assert "sleep 60" in processes(environment)


def test_a_child_that_goes_on_may_go_on_talking(environment):
    environment.exec("(while :; do echo talk; touch /tmp/alive; sleep 0.05; done) & true")
    environment.exec("sleep 0.3; rm -f /tmp/alive; sleep 0.3; test -e /tmp/alive || exit 9")
    assert environment.exec("rm -f /tmp/alive; sleep 0.5; test -e /tmp/alive").exit_code == 0


def test_the_prologue_runs_first_and_may_forbid_the_rest(environment):
    assert said(environment, "cat /tmp/x", prologue="echo ready >/tmp/x") == "ready\n"
    with pytest.raises(CannotExecute, match="not today"):
        environment.exec("true", prologue="echo not today; exit 1")


def test_on_start_comes_with_the_process(environment):
    begun = []
    result = environment.exec("true", on_start=begun.append)
    assert begun == [result.process]
    assert begun[0].pid > 1
    assert begun[0].started > 0


def test_commands_at_the_same_time(environment):
    results = {}

    def run(number):
        results[number] = environment.exec(f"sleep 0.2; echo {number}; exit {number}")

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
    return said(environment, "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null", user="0")


def test_kill_since(environment):
    said(environment, "setsid sleep 111 >/dev/null 2>&1 & true")
    # Start times have a resolution of a hundredth of a second.
    time.sleep(0.05)
    first = environment.exec("true").process
    said(environment, "setsid sleep 222 >/dev/null 2>&1 & (sleep 333 &) >/dev/null 2>&1; true", user="worker")
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
    wanted = "711 root /data\n755 root /data/deep\n640 root /data/deep/er/file\n755 root /data/content\n"
    files = "/data /data/deep /data/deep/er/file /data/content"
    assert said(environment, f"stat -c '%a %U %n' {files}", user="0") == wanted
    assert said(environment, "readlink /data/link; cat /data/deep/er/file", user="0") == "/etc/hostname\nfrom the host"


def test_an_upload_replaces_a_link_and_never_writes_through_one(environment):
    said(environment, "echo kept >/tmp/target; ln -s /tmp/target /app/file")
    environment.upload([Upload("/app/file", b"new")])
    assert said(environment, "cat /tmp/target /app/file") == "kept\nnew"


def test_a_large_upload(environment, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(20_000_000)
    environment.upload([Upload("/app/large", tmp_path / "large")])
    assert said(environment, "stat -c %s /app/large") == "20000000\n"


def test_links_in_the_way_of_an_upload_stay_inside(environment, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    said(environment, f"ln -s {outside} /app/dir")
    with contextlib.suppress(InfrastructureError):
        environment.upload([Upload("/app/dir/file", b"text")])
    assert list(outside.iterdir()) == []


def test_downloads(environment, tmp_path):
    said(environment, "mkdir -p /out/sub && echo a >/out/a && echo b >/out/sub/b && ln -s /etc/passwd /out/link")
    extraction = environment.download("/out", tmp_path / "got", reserved=frozenset({"sub/b"}))
    assert (tmp_path / "got/a").read_text() == "a\n"
    assert not (tmp_path / "got/sub/b").exists()
    assert not (tmp_path / "got/link").is_symlink()
    assert extraction.files == 1
    assert any(note.startswith("link: symbolic link") for note in extraction.skipped)


def test_a_download_of_a_link_does_not_follow_it(environment, tmp_path):
    said(environment, "ln -s /etc /out")
    environment.download("/out", tmp_path / "got")
    assert list((tmp_path / "got").iterdir()) == []


def test_a_download_of_what_is_odd(environment, tmp_path):
    said(
        environment,
        "mkdir /out && cd /out && mkfifo pipe && touch good 'b ad' \"$(printf 'new\\nline')\" && truncate -s 1G big",
    )
    environment.download("/out", tmp_path / "got")
    names = {path.name for path in (tmp_path / "got").iterdir()}
    assert {"good", "b ad"} <= names
    assert "pipe" not in names


def test_a_download_of_nothing(environment, tmp_path):
    with pytest.raises(FileNotFoundError):
        environment.download("/no/such", tmp_path / "got")


def test_read_file(environment, tmp_path):
    said(environment, "echo text >/app/file; mkdir /app/dir; ln -s file /app/link")
    environment.read_file("/app/file", tmp_path / "deep/file")
    assert (tmp_path / "deep/file").read_text() == "text\n"
    for path in ("/app/dir", "/app/link", "/app/none"):
        with pytest.raises(FileNotFoundError):
            environment.read_file(path, tmp_path / "x")


# Life and death.


def test_uploads_are_there_before_the_entrypoint_runs(start, build):
    image = build('FROM BASE\nCOPY --chmod=755 begin.sh /\nENTRYPOINT ["/begin.sh"]\n', **{"begin.sh": ENTRYPOINT})
    environment = start(image, uploads=[Upload("/early", b"bird\n")], variables={"SHAPE": "round"})
    assert said(environment, "cat /seen") == "bird\nround\n"
    assert "sleep 444" in processes(environment)


ENTRYPOINT = '#!/bin/sh\ncat /early >/seen; echo "$SHAPE" >>/seen; sleep 444 &\nexec "$@"\n'


def test_an_entrypoint_that_ends(start, build):
    image = build('FROM BASE\nENTRYPOINT ["sh", "-c", "echo no luck; exit 3"]\n')
    with pytest.raises(StartError, match="no luck"):
        start(image)


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


def test_stop_ends_it_and_may_come_twice(environment):
    assert environment.is_running()
    environment.stop()
    environment.stop()
    with pytest.raises(EnvironmentLost):
        environment.exec("true")


def test_environments_do_not_see_each_other(start, plain_image):
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


def test_limits_are_kept_or_noted(start, plain_image):
    environment = start(plain_image, resources=Resources(cpus=1, memory_mb=64))
    if any("memory" in note for note in environment.notes):
        pytest.skip(environment.notes[0])
    result = environment.exec(["python3", "-c", "x = bytearray(300_000_000); print('had it')"])
    assert result.exit_code != 0
    assert "had it" not in result.output
    assert said(environment, "echo lives") == "lives\n"


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
    assert said(environment, "stat -c '%u %g %a' /data/renamed", user="0") == "1234 99 640\n"
    assert (
        said(environment, "cat /copied/alias; cat /both/a /single /tree/deep/c /tree/b")
        == "a\nb\nhello world\na\na\nc\nb\n"
    )
    assert said(environment, "ls -A /data/old; id -u; echo $THREE") == "1234\n1a b\n"


def test_a_run_that_fails_names_itself(build):
    with pytest.raises(ImageError, match=r"(?s)RUN|run.*(boom|exit code|non-zero code: 9)"):
        build("FROM BASE\nRUN echo boom && exit 9\n")


def test_a_missing_source_names_itself(build):
    with pytest.raises(ImageError, match="nosuchfile"):
        build("FROM BASE\nCOPY nosuchfile /x\n")


def test_an_unknown_image_name_that_was_never_built(provider):
    assert provider.find_image("pytest-harbor:never-built-by-anybody") is None


def test_without_a_network_there_is_loopback_alone(start, plain_image):
    environment = start(plain_image, network=False)
    interfaces = environment.exec("tail -n +3 /proc/net/dev").output.split()
    assert [word for word in interfaces if word.endswith(":")] == ["lo:"]
    # Refused, by somebody who is there, and not unreachable: loopback is up.
    said = environment.exec("exec 3<>/dev/tcp/127.0.0.1/9").output
    assert "refused" in said
    assert "unreachable" in environment.exec("exec 3<>/dev/tcp/192.0.2.1/9").output
