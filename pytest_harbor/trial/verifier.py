"""Grading: the task's tests go in as root, run as the verifier's user, and leave a reward.

The environment is in the agent's hands until here: nothing in it is trusted to be what it was, and no link is followed.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_harbor._util.logs import LogFile
from pytest_harbor.environment import Environment, Extraction, Process, Upload
from pytest_harbor.environment.uploads import folder_uploads
from pytest_harbor.errors import CannotExecute, EnvironmentLost
from pytest_harbor.task import Task
from pytest_harbor.task.variables import resolve_variables
from pytest_harbor.trial.ctrf import InnerTests, read_ctrf
from pytest_harbor.trial.reward import Reward, read_reward
from pytest_harbor.trial.settings import TrialSettings

TESTS = "/tests"
LOGS = "/logs"
TEST_NAME = "test-stdout.txt"
TEST_LOG = f"verifier/{TEST_NAME}"
AGENT_LOG = "agent/agent.log"
# What the host writes into a trial's directory, and nobody in the environment: reports go by it.
_OF_THE_HOST = frozenset({TEST_LOG, AGENT_LOG, "host", "proxy", "trial.json", ".trial.json.tmp"})

# Runs as root. What is removed is the link, never what it points at; a directory that is a mount is emptied instead.
# A verifier of another user than the agent's owns its directory: what the agent left running cannot write there.
PREPARE = """
fresh() {{
  # Taken away from everybody first: what still runs must not put anything back while it is emptied.
  [ -L "$1" ] || {{ chown 0 "$1" && chmod 700 "$1"; }} 2>/dev/null
  rm -rf "$1" 2>/dev/null
  [ -L "$1" ] && return 1
  [ -d "$1" ] || {{ mkdir "$1"; return; }}
  for left in "$1"/* "$1"/.[!.]* "$1"/..?*; do [ -e "$left" ] || [ -L "$left" ] && return 1; done
  return 0
}}
[ -L /logs ] && rm -f /logs
[ -d /logs ] || {{ rm -rf /logs; mkdir /logs; }} || exit 1
for dir in agent artifacts; do
  [ -L /logs/$dir ] && rm -f /logs/$dir
  [ -d /logs/$dir ] || mkdir /logs/$dir
done
fresh /logs/verifier && chmod {mode} /logs/verifier || {{ echo "/logs/verifier cannot be made anew"; exit 1; }}
{own}
rm -rf /tests 2>/dev/null
if [ -d /tests ] && [ ! -L /tests ]; then cp -R -p {stage}/tests/. /tests/ || exit 1
elif [ -e /tests ] || [ -L /tests ]; then echo "/tests cannot be removed"; exit 1
else mv {stage}/tests /tests || exit 1; fi
rm -rf {stage}
"""


@dataclass
class Verification:
    """What grading found.

    Attributes:
        reward: the reward, or why there is none.
        exit_code: exit code of test.sh, None when it did not end.
        timed_out: whether its time ran out.
        problem: why it could not even run; empty otherwise.
        tests: the single tests.
        directory: the trial's directory; the verifier's files are in `verifier/`.
        warnings: what decides nothing.

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
    first: Process | None,
    echo: Callable[[bytes], None] | None = None,
) -> Verification:
    """Grade what is in an environment.

    Args:
        task: the task.
        environment: its environment, with the agent's work in it.
        settings: the trial's settings.
        directory: the trial's directory; verifier/, agent/ and artifacts/ are written below it.
        agent_user: who the agent was.
        first: the agent's first process, for the case that what it left must be killed to be able to grade.
        echo: takes the output of test.sh for a person who watches.

    Raises:
        InfrastructureError: the engine failed, or the environment is gone for good.
        MissingVariable: [verifier].env needs a variable of the host that is not set.

    """
    verifier = task.config.verifier
    user = None if verifier.user is None else str(verifier.user)
    variables = resolve_variables(verifier.env, "[verifier].env")
    timeout = verifier.timeout_sec * settings.timeout_multiplier
    warnings: list[str] = []

    def run(log: LogFile) -> tuple[int | None, bool]:
        stage = f"/.harbor-{secrets.token_hex(8)}"
        uploads, notes = folder_uploads(task, "tests", f"{stage}/tests")
        environment.upload([Upload(stage, None, 0o700), *uploads])
        prepare = _prepare(stage, user, agent_user)
        if _is_root(user, environment):
            prologue = prepare
        else:
            environment.exec(["true"], user="0", cwd="/", prologue=prepare)
            prologue = ""
        warnings.extend(note for note in notes if note not in warnings)
        result = environment.exec(
            f"({TESTS}/test.sh)", user=user, env=variables, timeout=timeout, output=log, prologue=prologue
        )
        return (None if result.timed_out else result.exit_code), result.timed_out

    with LogFile(directory / TEST_LOG, echo) as log:
        try:
            try:
                exit_code, timed_out = run(log)
            except (CannotExecute, EnvironmentLost) as error:
                warnings.append(f"grading began anew after {_recover(environment, first)}: {error}")
                exit_code, timed_out = run(log)
        except (CannotExecute, EnvironmentLost) as error:
            # The agent ran here, so this is its doing, unless restart() finds that the environment is gone for good.
            if not environment.is_running():
                environment.restart()
            problem = f"test.sh could not be run: {error.fact}"
            log(f"harbor: {problem}\n".encode())
            return Verification(_no_reward(problem), directory, problem=problem, warnings=warnings)
    extraction = _download(environment, directory)
    reward = read_reward(
        directory / "verifier",
        precedence=settings.reward_precedence,
        key=settings.reward_key or None,
        skipped=[note.removeprefix("verifier/") for note in extraction.skipped if note.startswith("verifier/")],
    )
    if timed_out:
        said = f"test.sh took longer than {timeout:g} s and was killed"
        if reward.value is None:
            reward = _no_reward(f"{said}; raise [verifier].timeout_sec or --harbor-timeout-multiplier")
        else:
            warnings.append(f"{said} after it had left a reward")
    return Verification(
        reward,
        directory,
        exit_code,
        timed_out,
        tests=read_ctrf(directory / "verifier" / "ctrf.json"),
        warnings=[*warnings, *reward.warnings, *extraction.skipped[:20]],
    )


def _prepare(stage: str, user: str | None, agent_user: str | None) -> str:
    mode, own = "777", ""
    if (user or "0") != (agent_user or "0"):
        mode = "755"
        own = f"chown -- {shlex.quote(user or '0')} /logs/verifier || exit 1"
    return PREPARE.format(stage=stage, mode=mode, own=own)


def _is_root(user: str | None, environment: Environment) -> bool:
    if user is None:
        return environment.image.runs_as_root
    return user.partition(":")[0] in ("root", "0")


def _recover(environment: Environment, first: Process | None) -> str:
    """Make an environment gradable again that the agent has stopped or has filled with processes."""
    if not environment.is_running():
        environment.restart()
        return "the environment, which had stopped, was started again"
    return environment.kill_since(first) if first else "a second try"


def _download(environment: Environment, directory: Path) -> Extraction:
    try:
        extraction = environment.download(LOGS, directory, reserved=_OF_THE_HOST)
        if any(note.startswith("archive: ") for note in extraction.skipped):
            # An agent that left too much must not bury the reward.
            again = environment.download(f"{LOGS}/verifier", directory / "verifier", reserved=frozenset({TEST_NAME}))
            agents = [note for note in extraction.skipped if not note.startswith("archive: ")]
            extraction.skipped = [*(f"verifier/{note}" for note in again.skipped), *agents]
        return extraction
    except FileNotFoundError:
        return Extraction(skipped=["/logs was removed while the tests ran"])


def _no_reward(problem: str) -> Reward:
    return Reward(value=None, metrics={}, problem=problem, warnings=(), source=None)
