"""The proxy's view of one trial: its secret, its calls, its budgets and its recorder.

Everything here runs in the server's thread, except where noted and at the start and end of the trial, when no call is
running.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pytest_harbor.agent import always_calls_models
from pytest_harbor.errors import InfrastructureError, UnmetRequirement
from pytest_harbor.proxy.access import ModelAccess
from pytest_harbor.proxy.call import MAX_MODEL_NAME, Call
from pytest_harbor.proxy.cassette import RecordedCall
from pytest_harbor.proxy.endpoints import CREDENTIAL_HEADERS, SUPPORTED, Endpoint, HTTPError
from pytest_harbor.proxy.recorder import CassetteRecorder, NotRecorded
from pytest_harbor.proxy.redact import Redactor, secret_values
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.trial import ServiceContext, Usage

DIRECTORY = "proxy"
CALLS = "calls.jsonl"

# Refused requests that are logged, so that an agent cannot fill the log.
_MAX_LOGGED_REQUESTS = 1000


class ProxiedTrial:
    """The calls of one trial.

    Args:
        settings: the proxy's settings.
        context: the trial.

    Attributes:
        secret: the API key that the trial's agent gets.
        recorder: records or replays the calls; None in live mode.
        failure: the error that ends the trial as an infrastructure error; None if there is none.
        access: what the calls say about the agent's access to its model.
        addresses: each `host:port` of the proxy.
        spent_budget: a phrase for the first budget that was spent; empty if none was.

    Raises:
        UnmetRequirement: a replay has no valid cassette.

    """

    def __init__(self, settings: ProxySettings, context: ServiceContext) -> None:
        self.settings = settings
        self.context = context
        self.secret = f"sk-harbor-{secrets.token_hex(24)}"
        self.failure: InfrastructureError | None = None
        self.spent_budget = ""
        self.access = ModelAccess()
        self.addresses: set[str] = set()
        self._count = 0
        self._finished_usage = Usage()
        # By number. A finished call is not kept, as each holds a whole conversation.
        self._open_calls: dict[int, Call] = {}
        self._turns = 0
        # How often a call with this digest failed and was not retried yet.
        self._failed: dict[str, int] = {}
        self._directory = context.work.directory / DIRECTORY
        self.recorder = None if settings.mode == "live" else CassetteRecorder(settings, context, lambda: self.redactor)

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of secrets; created at the first call, as hooks may add variables until the agent starts."""
        upstreams = self.settings.upstreams.items()
        keys = [(upstream.secret, f"{vendor}-key") for vendor, upstream in upstreams]
        keys += [(urlsplit(upstream.url).password or "", f"{vendor}-password") for vendor, upstream in upstreams]
        named = secret_values(self.context.work.variables)
        return Redactor(keys, [(self.secret, "secret"), *((value, name) for name, value in named.items())])

    @property
    def model(self) -> str:
        """The model set in every call; empty for the agent's own choice."""
        return self.context.result.model

    @property
    def usage(self) -> Usage:
        """The usage so far, including running calls."""
        total = self._finished_usage
        for call in self._open_calls.values():
            total = total + self._usage_of(call)
        return total

    def _usage_of(self, call: Call) -> Usage:
        usage = call.usage(self.settings.prices)
        # A model's name comes from the agent or the server, and may contain a secret.
        usage.models = {self.redactor.hide(name): number for name, number in usage.models.items()}
        usage.unpriced = [self.redactor.hide(name) for name in usage.unpriced]
        return usage

    def add_address(self, address: str) -> None:
        """Add a `host:port` of the proxy, which becomes a placeholder in cassettes, as it differs between trials."""
        self.addresses.add(address)
        if self.recorder is not None:
            self.recorder.placeholders.append((address, "<proxy>"))

    def log(self, text: str) -> None:
        """Write a line to the agent's log."""
        self.context.work.log(f"harbor: proxy: {self.redactor.hide(text)}\n".encode("utf-8", "replace"))

    # Before a call is answered.

    def authorize(self, headers: Mapping[str, str]) -> None:
        """Check that a request has the trial's secret.

        Raises:
            HTTPError: it does not, or grading has begun.

        """
        given = [headers[name].rpartition(" ")[2] for name in CREDENTIAL_HEADERS if name in headers]
        if not any(hmac.compare_digest(key.encode("utf-8", "replace"), self.secret.encode()) for key in given):
            message = "wrong API key for this trial; use the one in OPENAI_API_KEY or ANTHROPIC_API_KEY"
            raise HTTPError(401, "harbor_wrong_key", message)
        if self.context.graded():
            raise HTTPError(403, "harbor_over", "the agent's work is being graded; model calls are no longer answered")

    def unsupported_endpoint(self, method: str, target: str) -> HTTPError:
        """Return the error for an endpoint that is not supported."""
        path = target.partition("?")[0][:200]
        return HTTPError(404, "harbor_unknown_path", f"{method} {path} is not supported; supported: {SUPPORTED}")

    def refuse(self, error: HTTPError) -> None:
        """Count a request that is refused before it becomes a call, and log the first one for each reason."""
        # Once grading has begun, the agent had its chance.
        if error.code == "harbor_over" or len(self.access.refused) >= _MAX_LOGGED_REQUESTS:
            return
        if reason := self.access.refuse(error):
            self.log(f"{reason} ({error.status})")

    def internal_error(self, error: Exception) -> HTTPError:
        """Record an error in the proxy itself, which ends the trial, and return the response to its request."""
        fact = self.redactor.hide(f"the proxy failed: {type(error).__name__}: {error}")
        self.failure = self.failure or InfrastructureError(fact)
        self.failure.__cause__ = self.failure.__cause__ or error
        self.log(fact)
        return HTTPError(500, "harbor_proxy_failed", fact)

    def start_call(self, endpoint: Endpoint, method: str, target: str, body: bytes) -> Call:
        """Start a call.

        Raises:
            HTTPError: a budget is spent or cannot be enforced.

        """
        self._count += 1
        call = Call(self._count, endpoint, method, target, body)
        call.retry = retry = self._failed.get(call.digest, 0) > 0
        try:
            if endpoint.is_metered:
                self._check_budgets(call)
        except HTTPError as error:
            call.source, call.status, call.error = "proxy", error.status, error.message
            self.save_call(call, bodies=False)
            raise
        if retry:
            self._failed[call.digest] -= 1
        elif endpoint.is_turn:
            self._turns += 1
        self._open_calls[call.number] = call
        return call

    def _check_budgets(self, call: Call) -> None:
        budget = self.settings.budget
        ledger = self.settings.ledger if self.settings.has_upstream else None
        # A retry or a poll is not another turn, but may cost as much.
        turns = 0 if call.retry or call.endpoint.kind == "poll" else self._turns
        spent = budget.spent_limit(turns, self.usage)
        try:
            spent = spent or (ledger.spent_limit() if ledger else "")
        except OSError as error:
            self.failure = InfrastructureError(f"the session budget cannot be checked: {error}")
            raise HTTPError(503, "harbor_budget_unknown", str(error)) from error
        if spent:
            if not self.spent_budget:
                self.log(f"{spent}; further calls are rejected, and the work is graded as it stands")
            self.spent_budget = self.spent_budget or spent
            raise HTTPError(429, "harbor_budget_spent", f"{spent}: no more model calls in this trial")
        request = call.request
        is_limited = ledger is not None or budget.tokens is not None or budget.cost is not None
        if is_limited and isinstance(request, dict) and request.get("background"):
            message = "background responses are not allowed with a budget, as their usage may never be reported"
            raise HTTPError(400, "harbor_no_background", message)
        in_dollars = budget.cost is not None or (ledger is not None and ledger.in_dollars)
        names_model = call.endpoint.kind != "poll"
        if in_dollars and names_model and self.settings.prices.find(call.requested_model) is None:
            name = self.redactor.hide(call.requested_model)[:MAX_MODEL_NAME]
            fact = f"no price for the model {name!r}, so a budget in dollars cannot be enforced"
            self.failure = UnmetRequirement(fact, "add its price with --harbor-prices, or limit tokens instead")
            raise HTTPError(400, "harbor_no_price", fact)

    # During and after the response.

    def record_failure(self, call: Call, error: str) -> None:
        """Record that a model's server could not be reached or closed the connection early."""
        call.error = error
        self.log(f"call {call.number}: {error}")

    def finish_call(self, call: Call) -> bool:
        """Finish a call, whatever its outcome; return False if it was finished before."""
        if call.number not in self._open_calls:
            return False
        call.finish()
        del self._open_calls[call.number]
        self._finished_usage = self._finished_usage + self._usage_of(call)
        # An abandoned call may have cost as much as a completed one, so a repetition is not a retry.
        if call.status >= 400 or (call.status == 0 and not call.abandoned):
            self._failed[call.digest] = self._failed.get(call.digest, 0) + 1
        upstream = self.settings.upstreams[call.endpoint.vendor]
        log = self._directory / CALLS if self.settings.log != "off" else None
        self.access.finish_call(call, upstream, self.redactor, log)
        return True

    def save_call(self, call: Call, *, bodies: bool = True) -> None:
        """Log a call, and add its usage to the ledger of the run. May be called from any thread.

        Args:
            call: the call.
            bodies: whether the log may include the bodies.

        Raises:
            OSError: a file cannot be written.

        """
        if self.settings.log != "off":
            line = call.to_json(self.settings.prices, bodies=bodies and self.settings.log == "full")
            text = self.redactor.hide(json.dumps(line, ensure_ascii=True))
            self._directory.mkdir(parents=True, exist_ok=True)
            # In a single write, as several calls may end at the same time.
            with (self._directory / CALLS).open("ab", buffering=0) as file:
                file.write(text.encode() + b"\n")
        if self.settings.ledger is not None and call.source == "upstream":
            usage = call.usage(self.settings.prices)
            if usage.tokens:
                self.settings.ledger.add(usage.cost or 0.0, usage.tokens)

    def replay(self, call: Call) -> RecordedCall | None:
        """Return the recorded call for a call, or None if the call must go upstream. May be called from any thread.

        Raises:
            HTTPError: it was not recorded, and nothing may go upstream.

        """
        if self.recorder is None or not self.recorder.is_replaying:
            return None
        try:
            recorded = self.recorder.replay(call)
        except NotRecorded as error:
            log = self._write_diff(call, error.diff)
            message = error.message(log)
            self.failure = self.failure or UnmetRequirement(
                f"{message}\n" if error.diff else message,
                "record it again with --harbor-proxy=record, or see docs/proxy.md for what may differ",
                log=log,
            )
            self.log(message)
            call.source, call.error = "proxy", error.fact
            raise HTTPError(404, "harbor_not_recorded", message) from error
        if recorded is not None:
            call.source = "cassette"
        return recorded

    def _write_diff(self, call: Call, lines: list[str]) -> Path | None:
        if not lines:
            return None
        path = self._directory / f"call-{call.number}.diff"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
        except OSError:
            return None
        return path

    # The end.

    @property
    def error(self) -> InfrastructureError | None:
        """The error because of which the agent could not work, as far as its requests show; None if there is none."""
        if self.failure or self.spent_budget:
            return self.failure
        return self.access.failure or self.access.unreached("", self.context.work.log.path)

    @property
    def _expected(self) -> str:
        """A phrase for why the agent was expected to call its model; empty if it was not."""
        if always_calls_models(self.context.agent):
            return f"the agent {self.context.agent.name} always calls one"
        if self.context.model_calls is not None:
            return "in the baseline it calls one for this task" if self.context.model_calls else ""
        return f"the model {self.model} is set for it" if self.model else ""

    def finish(self, *, completed: bool) -> None:
        """Set the usage, budget and warnings of the trial's result, and save the cassette.

        Args:
            completed: whether the agent worked until it was done or out of time.

        Raises:
            InfrastructureError: the agent could not work because of an error here.

        """
        result = self.context.result
        result.usage = self.usage
        result.budget = self.spent_budget
        if not completed:
            return
        self.failure = self.error or self.access.unreached(self._expected, self.context.work.log.path)
        if self.recorder is not None and self.failure is None:
            try:
                result.warnings += self.recorder.save(cut_short=bool(self.spent_budget) or result.agent_timed_out)
            except OSError as error:
                self.failure = InfrastructureError(f"the cassette {self.recorder.path} cannot be written: {error}")
        if self.failure is not None:
            raise self.failure
        if not self._count:
            result.warnings.append("the agent made no calls through the proxy; check that it uses OPENAI_BASE_URL")
