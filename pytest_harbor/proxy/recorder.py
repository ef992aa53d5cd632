"""The recorder of one trial's calls, which also replays them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_harbor._util.text import plural
from pytest_harbor.errors import HookError, UnmetRequirement
from pytest_harbor.proxy.call import Call, parse_body
from pytest_harbor.proxy.cassette import Cassette, CassetteError, RecordedCall, cassette_path, split_body
from pytest_harbor.proxy.normalize import normalize_body
from pytest_harbor.proxy.redact import Redactor
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.trial import ServiceContext

# The response headers that clients depend on.
RECORDED_HEADERS = ("content-type", "retry-after", "x-should-retry")
# Lines of a diff that a message shows; a file in the trial's directory has all of them.
MAX_DIFF_LINES = 40


class NotRecorded(Exception):
    """A call is not in the cassette, and the mode allows no other answer.

    Attributes:
        fact: which call it is, and what the cassette has instead.
        diff: the lines of a unified diff to the closest recorded call; empty if there is none.

    """

    def __init__(self, fact: str, diff: list[str]) -> None:
        super().__init__(fact)
        self.fact = fact
        self.diff = diff

    def message(self, log: Path | None) -> str:
        """Return the fact with the first lines of the diff.

        Args:
            log: the file that has all lines.

        """
        lines = "".join(f"\n{line}" for line in self.diff[:MAX_DIFF_LINES])
        omitted = len(self.diff) - MAX_DIFF_LINES
        return self.fact + lines + (f"\n[{plural(omitted, 'more line')} in {log}]" if omitted > 0 else "")


class CassetteRecorder:
    """Records the calls of one trial in a cassette, and replays them from it.

    Args:
        settings: the proxy's settings.
        context: the trial.
        redactor: returns the redactor of the trial's secrets.

    Attributes:
        path: the cassette's file.
        placeholders: pairs of a text specific to this trial and its placeholder.

    Raises:
        UnmetRequirement: a replay needs a cassette, and there is none or it is not valid.

    """

    def __init__(self, settings: ProxySettings, context: ServiceContext, redactor: Callable[[], Redactor]) -> None:
        self._mode = settings.mode
        self._context = context
        self._redactor = redactor
        self._cassette = _load(settings, context)
        self.path = self._cassette.path
        self.placeholders = [(text, f"<{name}>") for name, text in _trial_specifics(context).items() if len(text) >= 6]

    @property
    def is_recording(self) -> bool:
        """Whether calls are recorded."""
        return self._mode in ("record", "auto")

    @property
    def is_replaying(self) -> bool:
        """Whether calls may be answered from the cassette."""
        return self._mode in ("replay", "auto")

    # normalize(), replay() and record() may be called from any thread.

    def normalize(self, call: Call) -> dict[str, Any]:
        """Return the request of a call as a cassette stores it.

        Raises:
            HookError: the hook pytest_harbor_cassette_request failed.

        """
        request = {
            "method": call.method,
            "path": call.target,
            "body": normalize_body(parse_body(self._redactor().hide_bytes(call.body)), self.placeholders),
        }
        try:
            self._context.hooks.cassette_request(self._context.work.task, request)
            json.dumps(request)
        except Exception as error:
            fact = f"the hook pytest_harbor_cassette_request failed: {type(error).__name__}: {error}"
            raise HookError(fact, "fix the hook") from error
        return request

    def replay(self, call: Call) -> RecordedCall | None:
        """Return the recorded call for a call, or None if the call must go upstream.

        Raises:
            NotRecorded: there is none, and nothing may go upstream.

        """
        assert call.normalized is not None
        recorded = self._cassette.take(call.normalized)
        if recorded is not None or self._mode == "auto":
            return recorded
        reason, diff = self._cassette.closest(call.normalized)
        fact = f"call {call.number} ({call.method} {call.target}) is not in the cassette {self.path}: {reason}"
        raise NotRecorded(fact, diff)

    def record(self, call: Call) -> None:
        """Record a call that a model's server answered."""
        # Statuses outside the range that HTTP defines cannot be replayed.
        is_valid = call.source == "upstream" and 200 <= call.status <= 599
        if not self.is_recording or call.normalized is None or not is_valid:
            return
        body = self._redactor().hide_bytes(b"".join(call.chunks))
        headers = {name: call.headers[name] for name in RECORDED_HEADERS if name in call.headers}
        chunks = split_body(body, streamed=call.streamed)
        self._cassette.add(RecordedCall(call.normalized, call.status, headers, chunks))

    def save(self, *, cut_short: bool) -> list[str]:
        """Write the cassette if it has new calls, and return warnings for the result.

        Args:
            cut_short: whether the agent was stopped, so that it may have had more calls to make.

        Raises:
            OSError: the file cannot be written.

        """
        old, unused = self._cassette.old_count, self._cassette.unused_count
        if self._mode == "record" or self._cassette.has_new:
            self._cassette.write(keep_unused=cut_short)
        if not unused or self._mode == "record":
            return []
        return [f"not replayed: {unused} of {plural(old, 'recorded call')} in {self.path}"]


def _load(settings: ProxySettings, context: ServiceContext) -> Cassette:
    mode, result = settings.mode, context.result
    attempt = (result.task, result.agent, result.attempt)
    path = cassette_path(settings.cassettes, *attempt, result.confirmation)
    if mode == "replay" and not path.exists():
        # A confirmation trial without its own cassette repeats the attempt.
        path = cassette_path(settings.cassettes, *attempt)
    if mode == "record":
        return Cassette(path)
    try:
        return Cassette.load(path)
    except FileNotFoundError as error:
        if mode == "auto":
            return Cassette(path)
        raise UnmetRequirement(
            f"there is no cassette {path} to replay", "record it once with --harbor-proxy=record"
        ) from error
    except CassetteError as error:
        raise UnmetRequirement(str(error), "restore it, or record it again with --harbor-proxy=record") from error


def _trial_specifics(context: ServiceContext) -> dict[str, str]:
    """Return the texts that are specific to this trial, by the name of their placeholder."""
    work = context.work
    return {
        "trial-directory": str(work.directory),
        "environment-id": work.environment.id,
        "environment": work.environment.name,
        "run": context.result.run,
        "trial": work.variables.get("HARBOR_TRIAL_ID", ""),
        "host-name": work.environment.id[:12],
    }
