"""The directories of an image that a trial writes to: what the image has stays as it is."""

import pytest

from pytest_harbor import run_trial
from pytest_harbor.agent import CommandAgent

pytestmark = pytest.mark.usefixtures("many_users")

DOCKERFILE = """
FROM BASE
RUN useradd --create-home --uid 1234 dev
RUN mkdir -p /task /tests/own /logs/agent /data
RUN echo image >/task/task.toml && echo image >/tests/own/data && ln -s own /tests/link && echo image >/logs/agent/own
RUN chown -R dev /task /tests/own /data && chmod 700 /task && chmod 711 /data && touch -d 2001-01-01 /tests/own
USER dev
WORKDIR /task
"""
REPORT = """
{
  stat -c '%n %a %U' /task /task/task.toml
  cat /task/task.toml /logs/agent/own /tests/own/data /tests/link/data
  stat -c '%n %a %U' /tests/own && stat -c '%y' /tests/own | cut -c1-10
  ls /tests
  stat -c '%n %a %U' /new /new/dir /new/dir/sub /new/dir/sub/file /data
} >/logs/verifier/report.txt 2>&1
echo 1 >/logs/verifier/reward.txt
"""
SEEN = """\
/task 700 dev
/task/task.toml 644 dev
image
image
image
image
/tests/own 755 dev
2001-01-01
link
own
test.sh
/new 755 dev
/new/dir 755 dev
/new/dir/sub 755 dev
/new/dir/sub/file 644 dev
/data 711 dev
"""


def test_working_directory_that_the_tests_share(provider, tmp_path, write_task_files):
    dockerfile = (
        "FROM python:3.12-slim\nRUN useradd dev && mkdir /tests && chown dev /tests\nUSER dev\nWORKDIR /tests\n"
    )
    test = "[ $(cat out) = done ] && [ $(stat -c %U /tests) = dev ] && echo 1 >/logs/verifier/reward.txt\n"
    files = {"environment/Dockerfile": dockerfile}
    task = write_task_files(tmp_path / "ds" / "shared", test=test, files=files)
    line = "ls -A && echo done >out && mkdir test.sh && ln -s /nowhere data.txt"
    result = run_trial(task, CommandAgent(line), results=tmp_path / "results", provider=provider)
    assert (result.outcome, result.reason) == ("passed", "")
    assert "the agent works in /tests; what it leaves there stays next to the tests" in result.warnings


def test_what_the_image_has_is_kept(provider, tmp_path, write_task_files):
    files = {"environment/Dockerfile": DOCKERFILE.replace("BASE", "python:3.12-slim")}
    task = write_task_files(tmp_path / "ds" / "kept", test=REPORT, files=files)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True, mode=0o700)
    (source / "sub" / "file").write_text("x")
    (source / "sub" / "file").chmod(0o600)
    said = {}

    def agent(task, environment):
        said["variables"] = environment.variables
        said["text"] = environment.exec("head -n 1 $HARBOR_INSTRUCTION_PATH; ls /harbor-task").output
        environment.upload(source, "/new/dir")
        environment.upload(source, "/data")
        for target in ("/data", "/etc/passwd/file"):
            with pytest.raises(OSError, match="directory"):
                environment.upload(source / "sub" / "file", target)
        said["changed"] = environment.exec("echo y >>/new/dir/sub/file; touch /new/dir/other; mkdir /new/more").output
        environment.exec("echo smuggled >/tests/own/data; echo smuggled >/tests/conftest.py", user="0")
        said["bad"] = [environment.exec("true", cwd="/gone").exit_code, environment.exec("no-such-program").exit_code]

    result = run_trial(task, agent, results=tmp_path / "results", provider=provider)
    assert (result.outcome, result.reason) == ("passed", "")
    report = (tmp_path / "results" / result.run / result.directory / "verifier" / "report.txt").read_text()
    assert said["variables"]["HARBOR_TASK_DIR"] == "/harbor-task"
    assert "instruction.md\ntask.toml\n" in said["text"]
    assert said["changed"] == ""
    assert said["bad"] == [126, 127]
    assert any("the image has its own /task/task.toml" in note for note in result.warnings)
    assert report == SEEN
