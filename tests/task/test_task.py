import os
import pickle
from pathlib import Path, PurePosixPath

import pytest

from pytest_harbor.task import DatasetError, Task, TaskError


def test_names_and_paths(write_task, tmp_path):
    task = Task.load(write_task("tb2/hello"))
    assert (task.name, task.dataset, task.id) == ("hello", "tb2", "tb2/hello")
    assert task.toml_path == tmp_path / "tb2/hello/task.toml"
    assert task.dockerfile is None
    assert task.has_solution is False
    task.environment_dir.mkdir()
    (task.environment_dir / "Dockerfile").write_text("FROM debian")
    task.solution_dir.mkdir()
    (task.solution_dir / "solve.sh").write_text("")
    assert task.dockerfile == tmp_path / "tb2/hello/environment/Dockerfile"
    assert task.has_solution is True


def test_path_is_absolute_and_keeps_links(write_task, tmp_path, monkeypatch):
    write_task("tb2/hello")
    (tmp_path / "alias").symlink_to("tb2")
    monkeypatch.chdir(tmp_path / "alias")
    assert Task.load("../alias/hello").path == tmp_path / "alias" / "hello"
    assert Task.load("hello").path.is_absolute()


def test_directory_without_task_toml(tmp_path):
    with pytest.raises(DatasetError, match=r"has no task\.toml"):
        Task.load(tmp_path)


def test_dataset_of_a_task_below_the_root_directory():
    assert Task(Path("/task")).id == "tasks/task"


def test_task_toml_is_read_once(write_task):
    good = Task.load(write_task("d/good", "[agent]\ntimeout_sec = 5"))
    broken = Task.load(write_task("d/broken", "= "))
    assert good.config.agent.timeout_sec == 5
    with pytest.raises(TaskError):
        _ = broken.config
    for task in (good, broken):
        task.toml_path.write_text("[agent]\ntimeout_sec = 7")
    assert good.config.agent.timeout_sec == 5
    with pytest.raises(TaskError, match="line 1, column 1"):
        _ = broken.config


def test_task_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(TaskError(Path("/t/task.toml"), "broken")))
    assert (error.path, error.reason, str(error)) == (Path("/t/task.toml"), "broken", "/t/task.toml: broken")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("Do it.\n", "Do it.\n"),
        ("<!-- harbor-canary GUID 1 -->\n# Canary line\n\n\nDo it.\n", "Do it.\n"),
        ("<!-- a note -->\nDo it.", "<!-- a note -->\nDo it."),
        ("<!-- canary --> Do it.", "<!-- canary --> Do it."),
        ("Do it.\n# canary\n", "Do it.\n# canary\n"),
        ("Grüße, 世界\r\nzwei\r\n", "Grüße, 世界\nzwei\n"),
        ("\ufeffDo it.", "Do it."),
    ],
)
def test_instruction(write_task, text, expected):
    task = write_task(instruction=None)
    (task / "instruction.md").write_bytes(text.encode())
    assert Task.load(task).instruction == expected


def test_unreadable_instruction(write_task):
    task = write_task(instruction=None)
    with pytest.raises(TaskError, match=r"instruction\.md: the file is missing"):
        _ = Task.load(task).instruction
    (task / "instruction.md").write_bytes(b"ok\n\xe9")
    with pytest.raises(TaskError, match=r"instruction\.md: line 2: not UTF-8 \(byte 0xe9\)"):
        _ = Task.load(task).instruction


def test_check(write_task):
    Task.load(write_task("d/ok")).check()
    with pytest.raises(TaskError, match=r"instruction\.md"):
        Task.load(write_task("d/no-instruction", instruction=None)).check()
    with pytest.raises(TaskError, match=r"tests/test\.sh: the file is missing"):
        Task.load(write_task("d/no-test", test=None)).check()
    with pytest.raises(TaskError, match=r"task\.toml"):
        Task.load(write_task("d/broken", "=", instruction=None)).check()
    Task.load(write_task("d/separate", "[verifier.environment]", test=None)).check()
    Task.load(write_task("d/steps", "[[steps]]\nname = 'a'", instruction=None, test=None)).check()


NETWORK = "network policies are not supported yet"
SEPARATE = "separate verifier environments are not supported yet"


@pytest.mark.parametrize(
    "toml,expected",
    [
        ("", None),
        ("[[steps]]\nname = 'a'", "multi-step tasks are not supported yet"),
        ("[environment]\nos = 'windows'", "windows environments are not supported"),
        ("[verifier]\nenvironment_mode = 'separate'", SEPARATE),
        ("[verifier]\nenvironment_mode = 'shared'", None),
        ("[verifier.environment]", SEPARATE),
        ("[environment]\nnetwork_mode = 'no-network'", None),
        ("[environment]\nnetwork_mode = 'no-network'\n[agent]\nnetwork_mode = 'no-network'", None),
        ("[environment]\nnetwork_mode = 'no-network'\n[agent]\nnetwork_mode = 'public'", NETWORK),
        ("[environment]\nnetwork_mode = 'allowlist'", NETWORK),
        ("[environment]\nallowed_hosts = ['example.com']", NETWORK),
        ("[environment]\nnetwork_mode = 'public'", None),
        ("[agent]\nnetwork_mode = 'allowlist'", NETWORK),
        ("[verifier]\nnetwork_mode = 'no-network'", NETWORK),
        ("[environment]\nallow_internet = false", None),
        ("[environment]\nallow_internet = false\n[verifier]\nnetwork_mode = 'public'", NETWORK),
        ("[environment]\nallow_internet = true", None),
        ("[agent]\nallowed_hosts = ['*.example.com']", NETWORK),
        ("[environment]\nos = 'windows'\nallow_internet = false", "windows environments are not supported"),
    ],
)
def test_unsupported(write_task, toml, expected):
    assert Task.load(write_task(toml=toml)).unsupported == expected


def test_unsupported_by_files(write_task):
    compose = Task.load(write_task("d/compose", "[environment]\nos = 'windows'"))
    compose.environment_dir.mkdir()
    (compose.environment_dir / "docker-compose.yml").write_text("")
    assert compose.unsupported == "windows environments are not supported"
    (compose.environment_dir / "docker-compose.yaml").write_text("")
    assert compose.unsupported == "docker-compose environments are not supported yet"
    steps = write_task("d/steps", instruction=None)
    assert Task.load(steps).unsupported is None
    (steps / "steps").mkdir()
    assert Task.load(steps).unsupported == "multi-step tasks are not supported yet"
    with pytest.raises(TaskError):
        _ = Task.load(write_task("d/broken", "=")).unsupported


def test_with_changes(write_task):
    task = Task.load(write_task(toml="[agent]\ntimeout_sec = 5"))
    longer = task.config.model_copy(update={"agent": task.config.agent.model_copy(update={"timeout_sec": 9.0})})
    changed = task.with_changes(config=longer).with_changes(instruction="Other.")
    assert (changed.config.agent.timeout_sec, changed.instruction) == (9.0, "Other.")
    assert (task.config.agent.timeout_sec, task.instruction) == (5.0, "Say hello.\n")
    assert changed.id == task.id
    assert changed != task
    assert task == Task(task.path, "tb2")
    assert len({task, changed, Task(task.path)}) == 2


@pytest.mark.parametrize(
    "tags,expected",
    [
        ("['a', 1, 2.5, true, 2026-01-02, [1], {}]", ("a", "1", "2.5", "True", "2026-01-02")),
        ("'one'", ("one",)),
        ("{}", ()),
        ("0x" + "f" * 5000, ()),
    ],
)
def test_tags(write_task, tags, expected):
    task = Task.load(write_task(toml=f"[metadata]\ndifficulty = 'hard'\ntags = {tags}\n"))
    assert (task.tags, task.difficulty, task.category) == (expected, "hard", None)


def _uploaded(task, folder="tests"):
    return [str(path) for path, _host in Task(task).upload_files(folder)]


def test_upload_files(write_task):
    task = write_task()
    sub = task / "tests" / "sub"
    sub.mkdir()
    (sub / "a b\n[1].py").write_text("")
    (task / "tests" / "sub.txt").write_text("")
    (task / "tests" / "loop").symlink_to(".")
    os.mkfifo(task / "tests" / "fifo")
    assert _uploaded(task) == ["loop", "sub", "sub/a b\n[1].py", "sub.txt", "test.sh"]
    assert Task(task).upload_files("tests")[1] == (PurePosixPath("sub"), sub)
    assert _uploaded(task, "solution") == []


def test_upload_folder_may_be_a_link(write_task, tmp_path):
    shared = write_task("d/shared")
    task = write_task("d/linked", test=None)
    (task / "tests").symlink_to(shared / "tests")
    assert _uploaded(task) == ["test.sh"]


def test_harborignore(write_task):
    task = write_task()
    for name in ("a.log", "keep.log", "data/x", "data/y", "sub/data", "cache/deep/z"):
        path = task / "tests" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    (task / ".harborignore").write_text("# logs\r\n*.log\r\n!keep.log\r\ndata/\r\n/tests/cache\r\n")
    assert _uploaded(task) == ["keep.log", "sub", "sub/data", "test.sh"]
    (task / ".harborignore").write_text("!\n")
    with pytest.raises(TaskError, match=r"\.harborignore: "):
        _uploaded(task)


@pytest.mark.parametrize("name", ["environment/Containerfile", "environment/dockerfile", "Dockerfile"])
def test_dockerfile_that_harbor_would_ignore(make_task, name):
    task = Task(make_task(files={name: "FROM scratch\n"}))
    with pytest.raises(
        TaskError, match=f"{name}: would be ignored; Harbor builds environment/Dockerfile, so rename it"
    ):
        task.check()
    (task.path / "environment").mkdir(exist_ok=True)
    (task.path / "environment" / "Dockerfile").write_text("FROM scratch\n")
    task.check()
