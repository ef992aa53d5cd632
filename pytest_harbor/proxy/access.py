"""An agent's access to its model: whether a trial's requests reached one, and what keeps them from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor._util.text import one_line, plural
from pytest_harbor.errors import InfrastructureError, UnmetRequirement

if TYPE_CHECKING:
    from pytest_harbor.proxy.call import Call
    from pytest_harbor.proxy.endpoints import HTTPError
    from pytest_harbor.proxy.redact import Redactor
    from pytest_harbor.proxy.settings import Upstream

# Statuses caused by the key or the account, which last until somebody acts.
_LASTING_FAILURES = frozenset({401, 402, 403})
# Statuses caused by the limits or the state of a model's server.
_SERVER_FAILURES = frozenset({408, 409, 429, *range(500, 600)})
# Statuses of a URL that leads elsewhere. Once a model has answered, they are the agent's own.
_WRONG_URL = frozenset({*range(300, 400), 404, 405, 410})
# How servers reject a model's name with a status that also stands for other mistakes.
UNKNOWN_MODEL = re.compile(
    r"model_not_found|unknown.model|no such model|invalid model|not a valid model|model\b.{0,120}(not found|not exist)",
    re.IGNORECASE | re.DOTALL,
)
# Characters of a response that a message may quote from.
_QUOTED = 2000
_REFUSALS = {"harbor_wrong_key": "no key of this trial was shown"}
_REFUSALS_SHOWN = 3


class ModelAccess:
    """What the requests of one trial say about its agent's access to the model.

    Attributes:
        attempted: whether a model call was made, whatever came of it.
        refused: the requests that the proxy refused, by reason.
        failure: the error that keeps the agent from its model, as far as its calls show; None if there is none.

    """

    def __init__(self) -> None:
        self.attempted = False
        self.refused: Counter[str] = Counter()
        self.failure: InfrastructureError | None = None
        self._answered = False

    def refuse(self, error: HTTPError) -> str:
        """Count a request that the proxy refuses, and return the reason, or an empty string if it is known."""
        reason = _REFUSALS.get(error.code) or error.message.partition(";")[0]
        self.refused[f"{error.status}, {reason}"] += 1
        return reason if self.refused[f"{error.status}, {reason}"] == 1 else ""

    def finish_call(self, call: Call, upstream: Upstream, redactor: Redactor, log: Path | None) -> None:
        """Take a call into account that has ended.

        Args:
            call: the call.
            upstream: the server of its vendor.
            redactor: removes secrets from what is reported.
            log: the file with all calls; None if there is none.

        """
        if not call.endpoint.is_metered or call.source == "proxy":
            return
        failure = self._failure_of(call, upstream, redactor, log) if call.source == "upstream" else None
        self._answered = self._answered or (failure is None and 200 <= call.status < 300)
        # Until a model has answered, a later mistake of the agent does not explain why.
        self.failure = failure if self._answered else failure or self.failure

    def _failure_of(
        self, call: Call, upstream: Upstream, redactor: Redactor, log: Path | None
    ) -> InfrastructureError | None:
        """Return the infrastructure error that a call ended with, if any."""
        vendor = call.endpoint.vendor
        url_setting = f"{vendor.upper()}_BASE_URL or --harbor-{vendor}-base-url"
        if call.error:
            fix = "" if call.chunks else f"check that the server is running and that its URL ({url_setting}) is correct"
            return InfrastructureError(f"the last model call failed: {redactor.hide(call.error)}", fix, log=log)
        if call.abandoned and call.status == 0 and not self._answered:
            fact = f"no model call was answered: the agent gave up on {upstream.shown_url} after {call.seconds:.0f} s"
            return UnmetRequirement(fact, "check that the server is fast enough for the agent's time limit", log=log)
        if call.abandoned:
            return None
        is_page = "html" in call.headers.get("content-type", "")
        if call.status < 300 and not is_page:
            return None
        response = redactor.hide_bytes(b"".join(call.chunks)).decode("utf-8", "replace")[:_QUOTED]
        fact = f"{call.status} ({_message(response)}) from {redactor.hide(upstream.shown_url + call.endpoint.path)}"
        if call.status in _LASTING_FAILURES:
            variable = f"{vendor.upper()}_API_KEY (or the variable that --harbor-{vendor}-key names)"
            fix = f"check {variable}, the quota and the URL" if upstream.key else f"no key was sent: set {variable}"
            return UnmetRequirement(f"the last model call failed: {fact}", fix, log=log)
        if call.status in _SERVER_FAILURES:
            return InfrastructureError(f"the last model call failed: {fact}", log=log)
        unknown = call.status in (400, 422) and UNKNOWN_MODEL.search(response)
        if self._answered or call.endpoint.kind == "poll" or not (call.status in _WRONG_URL or is_page or unknown):
            return None
        model = f" for the model {redactor.hide(call.requested_model)}" if call.requested_model else ""
        return UnmetRequirement(
            f"the trial's first model call failed: {fact}{model}",
            f"is the model's name right? Does the URL end with /v1? See --harbor-model, and {url_setting}",
            log=log,
        )

    def unreached(self, expected: str, log: Path) -> InfrastructureError | None:
        """Return the error of an agent that never reached its model although it tried, or was expected to; or None.

        Args:
            expected: a phrase for why the agent was expected to call a model; empty if it was not.
            log: the agent's log.

        """
        if self.attempted:
            return None
        if self.refused:
            count = self.refused.total()
            causes = "; ".join(reason for reason, _ in self.refused.most_common(_REFUSALS_SHOWN))
            return UnmetRequirement(
                f"the agent never reached its model: {plural(count, 'request')} {'was' if count == 1 else 'were'} "
                f"refused: {causes}",
                "the agent must take the URL and the key from OPENAI_BASE_URL and OPENAI_API_KEY (or ANTHROPIC_…) as "
                "they are set for it",
                log=log,
            )
        if not expected:
            return None
        return UnmetRequirement(
            f"the agent never reached its model: it made no model call, and {expected}",
            "check that it takes the URL from OPENAI_BASE_URL or ANTHROPIC_BASE_URL; "
            "an agent that needs no model needs no --harbor-model",
            log=log,
        )


def _message(response: str) -> str:
    """Return what a server reports in the body of an error."""
    try:
        body = json.loads(response)
    except (ValueError, RecursionError):
        return one_line(response) or "no text"
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")
    return one_line(error if isinstance(error, str) and error else response)
