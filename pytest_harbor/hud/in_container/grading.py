"""Grading inside the container, as pytest_harbor.trial.verifier does it from outside.

The agent may have changed anything in the container, so nothing in it is trusted and no link is followed.

Standard library only, apart from trial.reward: this module is part of every env.py.
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
from pytest_harbor.hud.in_container.processes import CommandNotStarted, ExecContext, Processes
from pytest_harbor.trial.reward import read_reward

VERIFIER_LOGS = Path("/logs/verifier")
TESTS = Path("/tests")
TEST_LOG = "test-stdout.txt"
SHOWN_BYTES = 16 * 1024


class GradingError(Exception):
    """The container's state prevents grading; the message says why."""


def grade(
    tests: IO[bytes], context: ExecContext, agent: User | None, timeout: float, processes: Processes
) -> dict[str, Any]:
    """Run a task's tests and return the fields of HUD's EvaluationResult.

    Args:
        tests: tests/ as a tar archive.
        context: the user, directory and environment variables of test.sh.
        agent: the agent's user.
        timeout: deadline for test.sh in seconds.
        processes: starts test.sh.

    """
    info: dict[str, Any] = {"exit_code": None, "timed_out": False}
    try:
        created = _prepare(tests, context.user, agent)
        log = os.open(VERIFIER_LOGS / TEST_LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(log, "rb") as file:
            command = processes.start(context.shell_words(f"({TESTS}/test.sh)"), context, stdout=log)
            code = command.wait(None, lambda _: None, timeout)
            info.update(exit_code=code, timed_out=code is None)
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            info["output"] = file.read().decode("utf-8", "replace")
        if not os.path.samestat(created, os.lstat(VERIFIER_LOGS)):
            raise GradingError(f"{VERIFIER_LOGS} was replaced while the tests ran")
    except (GradingError, CommandNotStarted, OSError, RecursionError, tarfile.TarError) as error:
        return _result(None, f"test.sh could not be run: {error}", info)
    reward = read_reward(VERIFIER_LOGS)
    info["metrics"] = reward.metrics
    notes = list(reward.warnings)
    if code is None:
        message = f"test.sh took longer than {timeout:g} s and was killed"
        if reward.value is None:
            return _result(None, f"{message}; raise [verifier].timeout_sec", info)
        notes.append(f"{message} after it had written a reward")
    return _result(reward.value, reward.problem or f"reward {reward.value:g} from {reward.source}", info, notes)


def _result(value: float | None, content: str, info: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    info["warnings"] = notes or []
    return {"reward": value or 0.0, "done": True, "content": content, "info": info, "isError": value is None}


def _prepare(tests: IO[bytes], verifier: User | None, agent: User | None) -> os.stat_result:
    """Create the directories and unpack the tests; return the status of the verifier's directory.

    A verifier that runs as another user than the agent owns its directory, so that processes left over from the agent
    cannot write to it.
    """
    if not stat.S_ISDIR(_lstat_mode("/logs")):
        _recreate(Path("/logs"), 0o755)
    for name in ("agent", "artifacts"):
        if not stat.S_ISDIR(_lstat_mode(f"/logs/{name}")):
            _recreate(Path("/logs", name), 0o777)
    same = verifier is None or agent is None or verifier.uid == agent.uid
    _recreate(VERIFIER_LOGS, 0o777 if same else 0o755)
    if verifier is not None and not same:
        os.chown(VERIFIER_LOGS, verifier.uid, verifier.gid, follow_symlinks=False)
    _recreate(TESTS, 0o755)
    tests.seek(0)
    with tarfile.open(fileobj=tests, mode="r:") as archive:
        archive.extractall(TESTS, numeric_owner=True, filter="fully_trusted")
    if not stat.S_ISREG(_lstat_mode(TESTS / "test.sh")):
        raise GradingError("the task has no tests/test.sh")
    return os.lstat(VERIFIER_LOGS)


def _recreate(path: Path, mode: int) -> None:
    """Replace whatever is at a path with an empty directory; links are not followed, and a mount is only emptied."""
    kind = _lstat_mode(path)
    if stat.S_ISDIR(kind):
        # Deny access first: processes that still run must not add anything while the directory is emptied.
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
        raise GradingError(f"{path} cannot be replaced with an empty directory")
    path.chmod(mode)


def _lstat_mode(path: str | os.PathLike[str]) -> int:
    """Return the mode of a path without following links; 0 if it does not exist."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0
