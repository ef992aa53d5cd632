"""Agent files: which are uploaded, and which a setup can see because its text names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_harbor.environment.uploads import agent_uploads
from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.image import Image, ImageDetails
from pytest_harbor.image.agent_files import agent_files, files_for_setup
from pytest_harbor.image.derived import SetupContext, setup_failure

EVERYTHING = {"main.py", "requirements.txt", "requirements-dev.txt", "lib/a.py", "lib/b c.py", "pkg-1.whl"}


@pytest.fixture
def agent(tmp_path) -> Path:
    directory = tmp_path / "agent"
    for name in EVERYTHING:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


def visible(text: str, agent: Path, target: str = "/agent") -> set[str]:
    return {file.target.removeprefix(f"{target}/") for file in files_for_setup(text, [(agent, target)])}


@pytest.mark.parametrize(
    "text",
    [
        "pip install /agent",
        "pip install /agent/",
        "pip install '/agent'",
        "pip install /agent[dev]",
        "cd /agent; make",
        "cp -r /agent/. /x",
        "cp /agent/* /x",
        "AGENT=/agent",
        "pip install --target=/x -r/agent/$NAME.txt",
        "pip install 'mine @ file:///agent'",
        "# installs /agent.",
        "/agent",
    ],
)
def test_text_that_names_the_directory(agent, text):
    assert visible(text, agent) == EVERYTHING


@pytest.mark.parametrize(
    "text, names",
    [
        ("pip install -r /agent/requirements.txt", {"requirements.txt"}),
        ("pip install -r/agent/requirements.txt", {"requirements.txt"}),
        ("pip install -r '/agent//requirements.txt'; true", {"requirements.txt"}),
        ("cat /agent/requirements.txt /agent/main.py", {"requirements.txt", "main.py"}),
        ("cat /agent/requirements*.txt", {"requirements.txt", "requirements-dev.txt"}),
        ("pip install /agent/pkg-${VERSION}.whl", {"pkg-1.whl"}),
        ("ls /agent/lib", {"lib/a.py", "lib/b c.py"}),
        ("ls /agent/lib/*.py", {"lib/a.py", "lib/b c.py"}),
        ('cat "/agent/lib/b c.py"', {"lib/b c.py"}),
        ("python3 -m venv /agent/.venv", set()),
        ("cat /agent/requirements.txt.old", set()),
        ("pip install /agents /agent-2 /agent2 /agent.d /opt/agent ./agent $HOME/agent ${X}/agent ~/agent", set()),
        ("pip install agent", set()),
        ("pip install my-agent", set()),
    ],
)
def test_text_that_names_some_files_or_none(agent, text, names):
    assert visible(text, agent) == names


def test_single_file(agent):
    file = (agent / "main.py", "/opt/agent.py")
    assert [found.target for found in files_for_setup("/opt/agent.py --install", [file])] == ["/opt/agent.py"]
    assert files_for_setup("/opt/agent.pyc", [file]) == []


def key(text: str, agent: Path, **details: str) -> str:
    image = Image("image", "present", ImageDetails("sha256:1", **details))
    files_seen = tuple(files_for_setup(text, [(agent, "/agent")]))
    return SetupContext(Path("image"), image=image, setup=text, files_seen=files_seen).digest


def test_only_what_the_setup_sees_changes_the_key(agent):
    text = "pip install -r /agent/requirements.txt"
    before, whole = key(text, agent), key("pip install /agent", agent)
    (agent / "main.py").write_text("changed")
    (agent / ".git").mkdir()
    os.utime(agent / "requirements.txt", (1, 1))
    assert key(text, agent) == before
    assert key("pip install /agent", agent) != whole
    assert len({before, key(f"{text} ", agent), key(text, agent, user="me"), key(text, agent, workdir="/x")}) == 4
    (agent / "requirements.txt").chmod(0o755)
    executable = key(text, agent)
    (agent / "requirements.txt").write_text("changed")
    assert len({before, executable, key(text, agent)}) == 3


def test_excluded_names_and_dockerignore(agent):
    for name in (".git/config", "lib/__pycache__/a.pyc", ".venv/bin/python", ".ruff_cache/x", "lib/.mypy_cache/y"):
        (agent / name).parent.mkdir(parents=True, exist_ok=True)
        (agent / name).touch()
    assert {file.target for file in agent_files(agent, "/agent")} == {f"/agent/{name}" for name in EVERYTHING}
    (agent / ".dockerignore").write_text("# comment\n*.txt\nlib/*\n!lib/a.py\n!.git\n")
    assert {file.target for file in agent_files(agent, "/a")} == {
        *("/a/.dockerignore", "/a/main.py", "/a/pkg-1.whl", "/a/lib/a.py")
    }


def test_uploads_are_readable_and_links_stay_links(agent, tmp_path):
    (tmp_path / "secret").write_text("outside")
    (agent / "out").symlink_to(tmp_path)
    (agent / "gone").symlink_to(tmp_path / "nowhere")
    (agent / "empty").mkdir(mode=0o700)
    (agent / "main.py").chmod(0o600)
    (agent / "pkg-1.whl").chmod(0o700)
    os.mkfifo(agent / "fifo")
    hostile = agent / os.fsdecode(b"line\nbreak \xff $(x)")
    hostile.touch()
    uploads = {upload.target.removeprefix("/agent/"): upload for upload in agent_uploads([(agent, "/agent/")])}
    assert set(uploads) == {*EVERYTHING, "out", "gone", "empty", hostile.name}
    modes = {name: upload.mode for name, upload in uploads.items()}
    assert modes["out"] is modes["gone"] is None
    assert (modes["main.py"], modes["pkg-1.whl"], modes["empty"]) == (0o644, 0o755, 0o755)


def test_a_source_that_is_a_link_is_followed(agent, tmp_path):
    (tmp_path / "link").symlink_to(agent)
    (tmp_path / "file").symlink_to(agent / "main.py")
    assert len(agent_files(tmp_path / "link", "/x")) == len(EVERYTHING)
    (upload,) = agent_uploads([(tmp_path / "file", "/bin/agent")])
    assert (upload.target, upload.source) == ("/bin/agent", agent / "main.py")


def test_unusable_sources_are_named(agent, tmp_path):
    with pytest.raises(UnmetRequirement, match=r"--harbor-agent-files: .*/gone does not exist"):
        agent_uploads([(tmp_path / "gone", "/x")])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UnmetRequirement, match="fifo is neither a file nor a directory"):
        agent_uploads([(tmp_path / "fifo", "/x")])
    (agent / ".dockerignore").write_bytes(b"\xff")
    with pytest.raises(UnmetRequirement, match=r"\.dockerignore cannot be read"):
        agent_uploads([(agent, "/x")])


@pytest.mark.parametrize("prefix", ["", "#7 0.241 "])
def test_setup_failure_from_any_builders_log(tmp_path, prefix):
    log = tmp_path / "log.txt"
    lines = ["--- agent setup ---", *(f"line {number}" for number in range(12)), "", "no such package"]
    text = "".join(f"{prefix}{line}\n" for line in [*lines, "--- agent setup ended with exit code 3 ---"])
    log.write_text(f'Step 3 : RUN echo "--- agent setup ---"\n{text}The command returned 3\n')
    first, *rest = setup_failure(log).splitlines()
    assert first == "exit code 3, last output:"
    assert rest == [*(f"line {number}" for number in range(3, 12)), "no such package"]
    log.write_text("the engine has gone")
    assert setup_failure(log) == setup_failure(None) == setup_failure(tmp_path / "none") == ""
