"""Recording the calls of one trial, and replaying them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_harbor.errors import HookError, UnmetRequirement
from pytest_harbor.proxy.call import Call, readable
from pytest_harbor.proxy.cassette import SHOWN, Cassette, CassetteError, Recorded, pieces_of, place_of
from pytest_harbor.proxy.normalise import normalise_body
from pytest_harbor.proxy.redact import Redactor
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.trial import ServiceContext

# What of an answer's headers a client goes by, and a cassette keeps.
KEPT_HEADERS = ("content-type", "retry-after", "x-should-retry")


class NotRecorded(Exception):
    """A call is in no cassette, and only what is there is answered.

    Attributes:
        fact: which call, and what is known of it.
        difference: lines of a unified difference to the nearest recorded call; none where there is none.

    """

    def __init__(self, fact: str, difference: list[str]) -> None:
        super().__init__(fact)
        self.fact = fact
        self.difference = difference

    def shown(self, log: Path | None) -> str:
        """Return what to say of it, with the first of these lines; all of them are in a log."""
        lines = "".join(f"\n{line}" for line in self.difference[:SHOWN])
        left_out = len(self.difference) - SHOWN
        return self.fact + lines + (f"\n[{left_out} more lines in {log}]" if left_out > 0 else "")


class Tape:
    """The cassette of one trial, and what is put into it and taken out of it.

    Args:
        settings: the proxy's settings.
        context: the trial.
        redactor: gives what hides secrets.

    Attributes:
        path: the cassette's file.
        facts: pairs of a text of this very trial and what stands for it.

    Raises:
        UnmetRequirement: it is to be replayed, and there is no cassette, or none that can be read.

    """

    def __init__(self, settings: ProxySettings, context: ServiceContext, redactor: Callable[[], Redactor]) -> None:
        self._mode = settings.mode
        self._context = context
        self._redactor = redactor
        self._cassette = _load(settings, context)
        self.path = self._cassette.path
        self.facts = [(text, f"<{name}>") for name, text in _facts(context).items() if len(text) >= 6]

    @property
    def records(self) -> bool:
        """Whether calls go into the cassette."""
        return self._mode in ("record", "auto")

    @property
    def replays(self) -> bool:
        """Whether calls may be answered from it."""
        return self._mode in ("replay", "auto")

    # These three may be called from any thread.

    def normal_form(self, call: Call) -> dict[str, Any]:
        """Return a request without what differs from trial to trial.

        Raises:
            HookError: the hook pytest_harbor_cassette_request went wrong.

        """
        request = {
            "method": call.method,
            "path": call.target,
            "body": normalise_body(readable(self._redactor().hide_bytes(call.body)), self.facts),
        }
        try:
            self._context.hooks.cassette_request(self._context.work.task, request)
            json.dumps(request)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise HookError(f"the hook pytest_harbor_cassette_request: {said}", "mend the hook") from error
        return request

    def answer(self, call: Call) -> Recorded | None:
        """Return the recorded answer of a call, None where the call is to be made.

        Raises:
            NotRecorded: there is none, and it is not to be made.

        """
        assert call.normal is not None
        found = self._cassette.find(call.normal)
        if found is not None or self._mode == "auto":
            return found
        said, lines = self._cassette.nearest(call.normal)
        asked = f"call {call.number} of {call.method} {call.target}"
        raise NotRecorded(f"{asked} is not in the cassette {self.path}: {said}", lines)

    def record(self, call: Call) -> None:
        """Keep a model's answer."""
        # A status that HTTP does not know is none.
        if not self.records or call.normal is None or call.source != "upstream" or not 200 <= call.status <= 599:
            return
        body = self._redactor().hide_bytes(b"".join(call.pieces))
        kept = {name: call.headers[name] for name in KEPT_HEADERS if name in call.headers}
        self._cassette.add(Recorded(call.normal, call.status, kept, pieces_of(body, streamed=call.streamed)))

    def keep(self, *, cut_short: bool) -> list[str]:
        """Write the cassette where there is something new for it, and return what a reader of the result should know.

        Args:
            cut_short: whether the agent did not come to its end, and so not to all that it would have asked for.

        Raises:
            OSError: it cannot be written.

        """
        recorded, unused = self._cassette.recorded, self._cassette.unused
        if self._mode == "record" or self._cassette.has_new:
            self._cassette.write(everything=cut_short)
        if not unused or self._mode == "record":
            return []
        return [f"{unused} of the {recorded} calls in the cassette were not asked for: {self.path}"]


def _load(settings: ProxySettings, context: ServiceContext) -> Cassette:
    mode, result = settings.mode, context.result
    attempt = (result.task, result.agent, result.attempt)
    path = place_of(settings.cassettes, *attempt, result.confirmation)
    if mode == "replay" and not path.exists():
        # A further trial of a task that newly failed says the same again.
        path = place_of(settings.cassettes, *attempt)
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
        raise UnmetRequirement(str(error), "record it anew with --harbor-proxy=record") from error


def _facts(context: ServiceContext) -> dict[str, str]:
    """Return what names this very trial, by what stands for it."""
    work = context.work
    return {
        "trial-directory": str(work.directory),
        "environment-id": work.environment.id,
        "environment": work.environment.name,
        "run": context.result.run,
        "trial": work.variables.get("HARBOR_TRIAL_ID", ""),
        "host-name": work.environment.id[:12],
    }
