"""A provider without an engine or a sandbox: no command runs in its environments, and rewards come from a table.

For tests of what happens around trials: collection, reports, gates. tests/providers/ tests the real providers.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from pytest_harbor.environment import ExecResult, Extraction
from pytest_harbor.errors import EnvironmentLost
from pytest_harbor.image import ImageDetails


class FakeProvider:
    """Creates environments in which every command succeeds at once.

    Args:
        rewards: rewards by task name, by agent name, or by task and then by agent; a list has one for each attempt,
            and None stands for an environment that is lost while the tests run.

    """

    name = "fake"
    has_registries = True
    adapts = False
    engine_id = "fake"
    architecture = "amd64"

    def __init__(self, rewards: dict[str, Any]) -> None:
        self.rewards = rewards

    def describe(self) -> str:
        return "fake"

    def find_image(self, ref: str) -> ImageDetails:
        return ImageDetails(id="sha256:fake")

    def start(self, image, request) -> FakeEnvironment:
        return FakeEnvironment(self.rewards, image, request)

    def remove_owned(self, which: str) -> list[str]:
        return []

    def close(self) -> None:
        pass


class FakeEnvironment:
    """An environment whose verifier always writes the reward of the table, and a metric `rows` of 7."""

    provider = "fake"
    workdir = "/app"
    notes = ()
    kept = ()

    def __init__(self, rewards, image, request) -> None:
        self.rewards = rewards
        self.image = image
        self.id = self.name = request.name
        self.task = request.task.rpartition("/")[2]
        self.lost = False
        self.proxies: dict[str, str] = {}

    def exec(self, command, *, output=None, **options) -> ExecResult:
        self._check()
        return ExecResult(0, "")

    def upload(self, uploads) -> list[str]:
        self._check()
        return []

    def save(self, directory) -> None:
        return None

    def download(self, source, destination, reserved=frozenset()) -> Extraction:
        # What the trial has recorded of itself tells whose reward this is.
        trial = json.loads((destination / "trial.json").read_text())
        reward = self.rewards[self.task if self.task in self.rewards else trial["agent"]]
        reward = reward[trial["agent"]] if isinstance(reward, dict) else reward
        reward = reward[trial["attempt"] - 1] if isinstance(reward, list) else reward
        if reward is None:
            self.lost = True
        self._check()
        (destination / "verifier").mkdir(exist_ok=True)
        (destination / "verifier" / "reward.json").write_text(json.dumps({"reward": reward, "rows": 7}))
        return Extraction()

    def is_running(self) -> bool:
        return not self.lost

    def restart(self) -> None:
        self._check()

    def listen(self, take):
        return contextlib.nullcontext("127.0.0.1:1")

    def exec_prefix(self) -> str:
        return f"fake exec {self.name}"

    def stop(self) -> None:
        pass

    def _check(self) -> None:
        if self.lost:
            raise EnvironmentLost("the container is gone")


def from_file(path: Path) -> FakeProvider:
    """Return a provider with the rewards of a JSON file."""
    return FakeProvider(json.loads(path.read_text()))
