"""The verifier: uploads the task's tests as root, runs them as the verifier's user, and reads the reward.

The agent controlled the environment until now, so nothing in it is trusted, and no link is followed.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from pytest_harbor._util.logs import LogFile
from pytest_harbor._util.seconds import bounded
from pytest_harbor.environment import Environment, Extraction, Process, Upload
from pytest_harbor.environment.uploads import folder_uploads
from pytest_harbor.errors import CannotExecute, EnvironmentLost
from pytest_harbor.task import Task
from pytest_harbor.task.values import user_text
from pytest_harbor.task.variables import resolve_variables
from pytest_harbor.trial.ctrf import InnerTests, read_ctrf
from pytest_harbor.trial.printed_tests import read_printed_tests
from pytest_harbor.trial.reward import Reward, read_reward
from pytest_harbor.trial.settings import TrialSettings
from pytest_harbor.trial.start import TESTS

LOGS = "/logs"
TEST_NAME = "test-stdout.txt"
TEST_LOG = f"verifier/{TEST_NAME}"
AGENT_LOG = "agent/agent.log"
# Written into a trial's directory by the host and never by the environment, because reports rely on them.
_RESERVED = frozenset({TEST_LOG, AGENT_LOG, "host", "proxy", "trial.json"})

# Runs as root. It removes links, never what they point at, and empties directories that are mounts. If the verifier's
# user is not the agent's, it owns its directory, so processes that the agent left running cannot write there.
PREPARE = """
fresh() {{
  # Take it away from everybody first, so that nothing still running can add files while it is emptied.
  [ -L "$1" ] || {{ chown 0 "$1" && chmod 700 "$1"; }} 2>/dev/null
  rm -rf "$1" 2>/dev/null
  [ -L "$1" ] && return 1
  [ -d "$1" ] || {{ mkdir "$1"; return; }}
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do [ -e "$entry" ] || [ -L "$entry" ] && return 1; done
  return 0
}}
[ -L /logs ] && rm -f /logs
[ -d /logs ] || {{ rm -rf /logs; mkdir /logs; }} || exit 1
for dir in agent artifacts; do
  [ -L /logs/$dir ] && rm -f /logs/$dir
  [ -d /logs/$dir ] || mkdir /logs/$dir
done
fresh /logs/verifier && chmod {mode} /logs/verifier || {{ echo "/logs/verifier cannot be recreated"; exit 1; }}
{own}
{place}
rm -rf {stage}
"""
REPLACE_TESTS = """
rm -rf /tests 2>/dev/null
if [ -d /tests ] && [ ! -L /tests ]; then cp -R -p {stage}/tests/. /tests/ || exit 1
elif [ -e /tests ] || [ -L /tests ]; then echo "/tests cannot be removed"; exit 1
else mv {stage}/tests /tests || exit 1; fi
"""
ADD_TESTS = """
[ -L /tests ] && rm -f /tests
[ -d /tests ] || mkdir /tests || exit 1
for entry in {stage}/tests/* {stage}/tests/.[!.]* {stage}/tests/..?*; do
  [ -e "$entry" ] || [ -L "$entry" ] || continue
  rm -rf "/tests/${{entry##*/}}" && mv "$entry" /tests/ || exit 1
done
"""


@dataclass
class Verification:
    """The outcome of grading.

    Attributes:
        reward: the reward, or why there is none.
        exit_code: exit code of test.sh, None if it did not end.
        timed_out: whether test.sh timed out.
        problem: why test.sh could not run; empty if it did.
        tests: the single tests.
        directory: the trial's directory; the verifier's files are in `verifier/`.
        warnings: problems that do not affect the outcome.

    """

    reward: Reward
    directory: Path
    exit_code: int | None = None
    timed_out: bool = False
    problem: str = ""
    tests: InnerTests | None = None
    warnings: list[str] = field(default_factory=list)


def verify(
    task: Task,
    environment: Environment,
    settings: TrialSettings,
    directory: Path,
    *,
    agent_user: str | None,
    image_tests: IO[bytes] | None,
    keep_tests: bool,
    first: Process | None,
    echo: Callable[[bytes], None] | None = None,
) -> Verification:
    """Grade the agent's work in an environment.

    Args:
        task: the task.
        environment: the environment with the agent's work.
        settings: the trial's settings.
        directory: the trial's directory; verifier/, agent/ and artifacts/ are written in it.
        agent_user: the agent's user.
        image_tests: the image's own /tests, as it was before the agent worked; the task's tests are added to it.
        keep_tests: whether what the agent left in /tests stays there, apart from what has the name of a test.
        first: the agent's first process; what the agent left running is killed if grading is not possible otherwise.
        echo: takes the output of test.sh for a person who watches.

    Raises:
        InfrastructureError: the engine failed, or the environment is gone for good.
        MissingVariable: [verifier].env needs an environment variable of the host that is not set.

    """
    verifier = task.config.verifier
    tests = _Tests(
        task,
        environment,
        user=user_text(verifier.user),
        agent_user=agent_user,
        image_tests=image_tests,
        keep_tests=keep_tests,
        variables=resolve_variables(verifier.env, "[verifier].env"),
        timeout=bounded(verifier.timeout_sec * settings.timeout_multiplier),
    )
    with LogFile(directory / TEST_LOG, echo) as log:
        try:
            exit_code, timed_out = tests.run_or_recover(log, first)
        except (CannotExecute, EnvironmentLost) as error:
            # The agent ran here, so this is its doing, unless restart() finds that the environment is gone for good.
            if not environment.is_running():
                environment.restart()
            problem = f"test.sh could not be run: {error.fact}"
            log(f"harbor: {problem}\n".encode())
            return Verification(_no_reward(problem), directory, problem=problem, warnings=tests.warnings)
    extraction = _download(environment, directory)
    reward = _read_reward(directory, settings, extraction)
    if timed_out:
        reward = _after_timeout(reward, tests.timeout, tests.warnings)
    elif exit_code and reward.problem:
        reward = replace(reward, problem=_after_failure(reward.problem, exit_code))
    return Verification(
        reward,
        directory,
        exit_code,
        timed_out,
        tests=read_ctrf(directory / "verifier" / "ctrf.json") or read_printed_tests(directory, TEST_LOG),
        warnings=[*tests.warnings, *reward.warnings, *extraction.skipped[:20]],
    )


@dataclass(frozen=True)
class _Tests:
    """The task's tests in one environment; `timeout` is in seconds, and `warnings` collects notes on the upload."""

    task: Task
    environment: Environment
    user: str | None
    agent_user: str | None
    image_tests: IO[bytes] | None
    keep_tests: bool
    variables: Mapping[str, str]
    timeout: float
    warnings: list[str] = field(default_factory=list)

    def run_or_recover(self, log: LogFile, first: Process | None) -> tuple[int | None, bool]:
        """Run the tests; if they cannot run, recover the environment and try once more."""
        try:
            return self.run(log)
        except (CannotExecute, EnvironmentLost) as error:
            how = _recover(self.environment, first)
            self.warnings.append(f"the first attempt to grade failed ({error}); {how} before the second")
            return self.run(log)

    def run(self, log: LogFile) -> tuple[int | None, bool]:
        """Upload and run the tests; return the exit code of test.sh, None if it timed out, and whether it did."""
        stage = f"/.harbor-{secrets.token_hex(8)}"
        uploads, notes = folder_uploads(self.task, "tests", f"{stage}/tests")
        # Every user can read /tests, whatever the image's was.
        uploads[0] = replace(uploads[0], keep=False)
        if self.image_tests is None:
            uploads.insert(0, Upload(stage, None, 0o700))
        else:
            self.environment.upload([Upload(stage, None, 0o700)])
            self.environment.restore(self.image_tests, stage)
        self.environment.upload(uploads)
        self.warnings.extend(note for note in notes if note not in self.warnings)
        prepare = _prepare(stage, self.user, self.agent_user, self.keep_tests)
        if not _is_root(self.user, self.environment):
            self.environment.exec(["true"], user="0", cwd="/", prologue=prepare)
            prepare = ""
        result = self.environment.exec(
            f"({TESTS}/test.sh)",
            user=self.user,
            env=self.variables,
            timeout=self.timeout,
            output=log,
            prologue=prepare,
        )
        return (None if result.timed_out else result.exit_code), result.timed_out


def _prepare(stage: str, user: str | None, agent_user: str | None, keep_tests: bool) -> str:
    mode, own = "777", ""
    if (user or "0") != (agent_user or "0"):
        mode = "755"
        own = f"chown -- {shlex.quote(user or '0')} /logs/verifier || exit 1"
    place = ADD_TESTS if keep_tests else REPLACE_TESTS
    return PREPARE.format(mode=mode, own=own, place=place.format(stage=stage), stage=stage)


def _is_root(user: str | None, environment: Environment) -> bool:
    if user is None:
        return environment.image.runs_as_root
    return user.partition(":")[0] in ("root", "0")


def _recover(environment: Environment, first: Process | None) -> str:
    """Recover an environment that the agent stopped or filled with processes, and return how."""
    if not environment.is_running():
        environment.restart()
        return "the environment had stopped and was restarted"
    return environment.kill_since(first) if first else "nothing was changed"


def _download(environment: Environment, directory: Path) -> Extraction:
    try:
        extraction = environment.download(LOGS, directory, reserved=_RESERVED)
        if any(note.startswith("archive: ") for note in extraction.skipped):
            # An agent that left too many files must not bury the reward.
            again = environment.download(f"{LOGS}/verifier", directory / "verifier", reserved=frozenset({TEST_NAME}))
            agents = [note for note in extraction.skipped if not note.startswith("archive: ")]
            extraction.skipped = [*(f"verifier/{note}" for note in again.skipped), *agents]
        return extraction
    except FileNotFoundError:
        return Extraction(skipped=["/logs was removed while the tests ran"])


def _read_reward(directory: Path, settings: TrialSettings, extraction: Extraction) -> Reward:
    return read_reward(
        directory / "verifier",
        precedence=settings.reward_precedence,
        key=settings.reward_key or None,
        skipped=[note.removeprefix("verifier/") for note in extraction.skipped if note.startswith("verifier/")],
    )


def _after_timeout(reward: Reward, timeout: float, warnings: list[str]) -> Reward:
    """Return the reward of tests that timed out; one that was written in time counts, with a warning."""
    fact = f"test.sh took longer than {timeout:g} s and was killed"
    if reward.value is None:
        return _no_reward(f"{fact}; raise [verifier].timeout_sec or --harbor-timeout-multiplier")
    warnings.append(f"{fact} after it had written a reward")
    return reward


def _after_failure(problem: str, exit_code: int) -> str:
    """Return why there is no reward, beginning with the exit code of test.sh, which is the likely cause."""
    fact = problem.removeprefix("test.sh ")
    return (
        f"test.sh exited with {exit_code} and {fact}" if fact != problem else f"test.sh exited with {exit_code}: {fact}"
    )


def _no_reward(problem: str) -> Reward:
    return Reward(value=None, metrics={}, problem=problem, warnings=(), source=None)
