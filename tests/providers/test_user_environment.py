"""The environment of a user's own test: the methods are those that a callable agent has."""

import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
TEST = f"""
import pytest
from pathlib import Path


@pytest.fixture
def harbor_agent():
    return use


def use(task, environment):
    assert environment.exec("nosuchprogram").exit_code == 127
    missing = environment.exec(["nosuchprogram"])
    assert missing.exit_code == 127 and "nosuchprogram" in missing.output
    assert environment.exec("pwd", cwd="/tmp", timeout=30).output == "/tmp\\n"
    assert environment.exec("pwd").output == environment.workdir + "\\n"
    assert environment.exec("echo $WHO", env={{"WHO": 3}}).output == "3\\n"
    here = Path(__file__)
    environment.upload(here, "/opt/copied/test.py")
    environment.download("/opt/copied/test.py", here.with_name(environment.name + ".txt"))
    assert here.with_name(environment.name + ".txt").read_text() == here.read_text()
    environment.download("/opt/copied", here.with_name(environment.name))
    assert here.with_name(environment.name).joinpath("test.py").exists()
    absent = "/no/such"
    for call in (lambda: environment.upload(absent, "/x"), lambda: environment.download(absent, here.parent / "x")):
        with pytest.raises(FileNotFoundError):
            call()


@pytest.mark.harbor(dataset={str(TASKS)!r}, task="hello-world")
def test_environment(harbor_task, harbor_environment):
    use(harbor_task, harbor_environment)


@pytest.mark.harbor(dataset={str(TASKS)!r}, task="hello-world")
def test_agent(harbor_trial):
    assert harbor_trial.result.agent_exit == 0, harbor_trial.result.agent_note
"""


@pytest.mark.usefixtures("namespace", "examples_lock")
def test_same_methods_as_in_an_agent(tmp_path):
    (tmp_path / "test_mine.py").write_text(TEST)
    words = ["-m", "pytest", "-p", "no:cacheprovider", "--harbor-environment=namespace", "test_mine.py"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
