"""Grading in the container itself, as pytest_harbor.trial.verifier does it from outside.

The container is in the agent's hands until here: nothing in it is trusted to be what it was, and no link is followed.

Standard library only, but for the reading of rewards: the text of this module is part of every env.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, Any

from pytest_harbor._util.users import User
from pytest_harbor.hud.in_container.processes import CannotRun, Place, Processes
from pytest_harbor.trial.reward import read_reward

VERIFIER_LOGS = Path("/logs/verifier")
TESTS = Path("/tests")
TEST_LOG = "test-stdout.txt"
SHOWN_BYTES = 16 * 1024


class CannotGrade(Exception):
    """Something in the container keeps it from being graded; the message says what."""


def grade(tests: IO[bytes], place: Place, agent: User | None, timeout: float, processes: Processes) -> dict[str, Any]:
    """Run a task's tests and return the fields of HUD's EvaluationResult.

    Args:
        tests: tests/ as a tar archive.
        place: as whom, where and with which variables test.sh runs.
        agent: who the agent was.
        timeout: seconds that test.sh may take.
        processes: what starts it.

    """
    info: dict[str, Any] = {"exit_code": None, "timed_out": False}
    try:
        made = _prepare(tests, place.user, agent)
        log = os.open(VERIFIER_LOGS / TEST_LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(log, "rb") as file:
            running = processes.start(place.shell_words(f"({TESTS}/test.sh)"), place, stdout=log)
            code = running.wait(None, lambda _: None, timeout)
            info.update(exit_code=code, timed_out=code is None)
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            info["output"] = file.read().decode("utf-8", "replace")
        if not os.path.samestat(made, os.lstat(VERIFIER_LOGS)):
            raise CannotGrade(f"{VERIFIER_LOGS} was replaced while the tests ran")
    except (CannotGrade, CannotRun, OSError, RecursionError, tarfile.TarError) as error:
        return _result(None, f"test.sh could not be run: {error}", info)
    reward = read_reward(VERIFIER_LOGS)
    info["metrics"] = reward.metrics
    notes = list(reward.warnings)
    if code is None:
        said = f"test.sh took longer than {timeout:g} s and was killed"
        if reward.value is None:
            return _result(None, f"{said}; raise [verifier].timeout_sec", info)
        notes.append(f"{said} after it had left a reward")
    return _result(reward.value, reward.problem or f"reward {reward.value:g} of {reward.source}", info, notes)


def _result(value: float | None, said: str, info: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    info["warnings"] = notes or []
    return {"reward": value or 0.0, "done": True, "content": said, "info": info, "isError": value is None}


def _prepare(tests: IO[bytes], verifier: User | None, agent: User | None) -> os.stat_result:
    """Put everything in its place, and return what tells whether the verifier's directory is still the one made here.

    A verifier of another user than the agent's owns its directory: what the agent left running cannot write there.
    """
    if not stat.S_ISDIR(_lstat_mode("/logs")):
        _fresh(Path("/logs"), 0o755)
    for name in ("agent", "artifacts"):
        if not stat.S_ISDIR(_lstat_mode(f"/logs/{name}")):
            _fresh(Path("/logs", name), 0o777)
    same = verifier is None or agent is None or verifier.uid == agent.uid
    _fresh(VERIFIER_LOGS, 0o777 if same else 0o755)
    if verifier is not None and not same:
        os.chown(VERIFIER_LOGS, verifier.uid, verifier.gid, follow_symlinks=False)
    _fresh(TESTS, 0o755)
    tests.seek(0)
    with tarfile.open(fileobj=tests, mode="r:") as archive:
        archive.extractall(TESTS, numeric_owner=True, filter="fully_trusted")
    if not stat.S_ISREG(_lstat_mode(TESTS / "test.sh")):
        raise CannotGrade("the task has no tests/test.sh")
    return os.lstat(VERIFIER_LOGS)


def _fresh(path: Path, mode: int) -> None:
    """Make a directory anew. What is removed is a link, never what it points at; one that is a mount is emptied."""
    kind = _lstat_mode(path)
    if stat.S_ISDIR(kind):
        # Taken away from everybody first: what still runs must not put anything back while it is emptied.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, 0o700)
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)
    elif kind:
        path.unlink()
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if not stat.S_ISDIR(_lstat_mode(path)) or any(path.iterdir()):
        raise CannotGrade(f"{path} cannot be made anew")
    path.chmod(mode)


def _lstat_mode(path: str | os.PathLike[str]) -> int:
    """Return the mode of a path, no link followed; 0 where there is nothing."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0
