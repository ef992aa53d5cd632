"""What the proxy knows of one trial.

All of it is used in the thread of the server alone, but for what says otherwise, and for the trial's beginning and end,
when no call goes on.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pytest_harbor.errors import InfrastructureError, UnmetRequirement
from pytest_harbor.proxy.call import LONGEST_NAME, Call
from pytest_harbor.proxy.cassette import Recorded
from pytest_harbor.proxy.endpoints import CREDENTIALS, SERVED, Endpoint
from pytest_harbor.proxy.recorder import NotRecorded, Tape
from pytest_harbor.proxy.redact import Redactor, secret_values
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.trial import ServiceContext, Usage

DIRECTORY = "proxy"
CALLS = "calls.jsonl"

# Answers that say nothing about the agent: the key, the limits or the state of a model's server.
_TROUBLE = frozenset({401, 402, 403, 408, 409, 429, *range(500, 600)})
# Of these, those that go on until somebody does something.
_LASTING = frozenset({401, 402, 403})


class Refusal(Exception):
    """The proxy answers a call itself.

    Attributes:
        status: HTTP status.
        code: a name for programs.
        message: for people.

    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class ProxiedTrial:
    """One trial's calls.

    Args:
        settings: the proxy's settings.
        context: the trial.

    Attributes:
        secret: what the trial's agent has for a key.
        tape: what it records to, or is replayed from; None where neither is.
        problem: what ends the trial as an infrastructure error; None for nothing.
        spent: which budget of the trial was spent; empty for none.

    Raises:
        UnmetRequirement: it is to be replayed, and there is no cassette.

    """

    def __init__(self, settings: ProxySettings, context: ServiceContext) -> None:
        self.settings = settings
        self.context = context
        self.secret = f"sk-harbor-{secrets.token_hex(24)}"
        self.problem: InfrastructureError | None = None
        self.spent = ""
        self._trouble: InfrastructureError | None = None
        self._count = 0
        self._finished = Usage()
        # By number. Those that have ended are not kept: each has a whole conversation.
        self._open: dict[int, Call] = {}
        self._turns = 0
        self._failed: dict[str, int] = {}
        self._unknown: set[str] = set()
        self._directory = context.work.directory / DIRECTORY
        self.tape = None if settings.mode == "live" else Tape(settings, context, lambda: self.redactor)

    @cached_property
    def redactor(self) -> Redactor:
        """What hides secrets; made at the first call, as a hook may add variables until the agent's work begins."""
        upstreams = self.settings.upstreams.items()
        keys = [(upstream.secret, f"{vendor}-key") for vendor, upstream in upstreams]
        keys += [(urlsplit(upstream.url).password or "", f"{vendor}-password") for vendor, upstream in upstreams]
        named = secret_values(self.context.work.variables)
        return Redactor(keys, [(self.secret, "secret"), *((value, name) for name, value in named.items())])

    @property
    def model(self) -> str:
        """The model that goes into every call; empty for the agent's own choice."""
        return self.context.result.model

    @property
    def usage(self) -> Usage:
        """What it has used so far, calls that go on included."""
        total = self._finished
        for call in self._open.values():
            total = total + self._usage_of(call)
        return total

    def _usage_of(self, call: Call) -> Usage:
        usage = call.usage(self.settings.prices)
        # Models' names are what somebody says.
        usage.models = {self.redactor.hide(name): number for name, number in usage.models.items()}
        usage.unpriced = [self.redactor.hide(name) for name in usage.unpriced]
        return usage

    def reached_at(self, address: str) -> None:
        """Take note of a `host:port` that the agent calls: it differs from trial to trial."""
        if self.tape is not None:
            self.tape.facts.append((address, "<proxy>"))

    def log(self, text: str) -> None:
        """Say something in the agent's log."""
        self.context.work.log(f"harbor: proxy: {self.redactor.hide(text)}\n".encode("utf-8", "replace"))

    # What comes before a call is answered.

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check that a request comes from this trial.

        Raises:
            Refusal: it does not show the trial's secret.

        """
        given = [headers[name].rpartition(" ")[2] for name in CREDENTIALS if name in headers]
        if not any(hmac.compare_digest(key.encode("utf-8", "replace"), self.secret.encode()) for key in given):
            raise Refusal(401, "harbor_wrong_key", "this is not the key of this trial; use OPENAI_API_KEY as it is set")
        if self.context.graded():
            raise Refusal(403, "harbor_over", "the agent's work is being graded; no model answers any more")

    def unknown(self, method: str, target: str) -> Refusal:
        """Return the refusal of a path that is not served; the log has each once."""
        path = target.partition("?")[0][:200]
        if f"{method} {path}" not in self._unknown and len(self._unknown) < 1000:
            self._unknown.add(f"{method} {path}")
            self.log(f"{method} {path} is not served (404)")
        return Refusal(404, "harbor_unknown_path", f"{method} {path} is not served here; served are {SERVED}")

    def broken(self, error: Exception) -> Refusal:
        """Return the refusal of a request that the proxy failed at, which ends the trial."""
        said = self.redactor.hide(f"the proxy failed: {type(error).__name__}: {error}")
        self.problem = self.problem or InfrastructureError(said)
        self.problem.__cause__ = self.problem.__cause__ or error
        self.log(said)
        return Refusal(500, "harbor_proxy_failed", said)

    def begin(self, place: Endpoint, method: str, target: str, body: bytes) -> Call:
        """Begin a call.

        Raises:
            Refusal: a budget is spent, or cannot be kept.

        """
        self._count += 1
        call = Call(self._count, place, method, target, body)
        call.retry = retry = self._failed.get(call.digest, 0) > 0
        try:
            if place.is_metered:
                self._afford(call)
        except Refusal as refusal:
            call.source, call.status, call.error = "proxy", refusal.status, refusal.message
            self.write_down(call, bodies=False)
            raise
        if retry:
            self._failed[call.digest] -= 1
        elif place.is_turn:
            self._turns += 1
        self._open[call.number] = call
        return call

    def _afford(self, call: Call) -> None:
        settings = self.settings
        ledger = settings.ledger if settings.has_upstream else None
        # One that failed before, or fetches what an earlier one began, is no further turn; it costs as much as any.
        turns = 0 if call.retry or call.endpoint.kind == "fetched" else self._turns
        spent = settings.budget.spent(turns, self.usage)
        try:
            spent = spent or (ledger.spent() if ledger else "")
        except OSError as error:
            self.problem = InfrastructureError(f"the session's budget: {error}")
            raise Refusal(503, "harbor_budget_unknown", str(error)) from error
        if spent:
            if not self.spent:
                self.log(f"{spent}; calls are refused from here on, and the work is graded as it stands")
            self.spent = self.spent or spent
            raise Refusal(429, "harbor_budget_spent", f"{spent}: no further calls of models in this trial")
        request = call.request
        limited = ledger is not None or settings.budget.tokens is not None or settings.budget.cost is not None
        if limited and isinstance(request, dict) and request.get("background"):
            fact = "a budget cannot be kept with responses in the background, of which nobody need ask what they used"
            raise Refusal(400, "harbor_no_background", fact)
        in_dollars = settings.budget.cost is not None or (ledger is not None and ledger.in_dollars)
        named = call.endpoint.kind != "fetched"
        if in_dollars and named and settings.prices.find(call.asked_model) is None:
            name = self.redactor.hide(call.asked_model)[:LONGEST_NAME]
            fact = f"there is no price for the model {name!r}, so that a budget in dollars cannot be kept"
            self.problem = UnmetRequirement(fact, "put it into a file for --harbor-prices, or limit tokens instead")
            raise Refusal(400, "harbor_no_price", fact)

    # What becomes of it.

    def failed(self, call: Call, error: str) -> None:
        """Take note that a model's server could not be reached, or broke off."""
        call.error = error
        self.log(f"call {call.number}: {error}")

    def end(self, call: Call) -> bool:
        """Take note that a call has ended, well or not; False where that is known already."""
        if call.number not in self._open:
            return False
        call.end()
        del self._open[call.number]
        self._finished = self._finished + self._usage_of(call)
        # What an agent gives up may have cost as much as what it does not.
        if call.status >= 400 or (call.status == 0 and not call.given_up):
            self._failed[call.digest] = self._failed.get(call.digest, 0) + 1
        if call.source == "upstream" and call.endpoint.is_metered:
            self._trouble = self._trouble_of(call)
        return True

    def write_down(self, call: Call, *, bodies: bool = True) -> None:
        """Charge the run for a call, and keep it; this may be called from any thread.

        Args:
            call: the call.
            bodies: whether what was said may be kept.

        Raises:
            OSError: it cannot be written down.

        """
        if self.settings.log != "off":
            line = call.to_json(self.settings.prices, bodies=bodies and self.settings.log == "full")
            text = self.redactor.hide(json.dumps(line, ensure_ascii=True))
            self._directory.mkdir(parents=True, exist_ok=True)
            # In one go, as several calls may end at the same time.
            with (self._directory / CALLS).open("ab", buffering=0) as file:
                file.write(text.encode() + b"\n")
        if self.settings.ledger is not None and call.source == "upstream":
            used = call.usage(self.settings.prices)
            if used.tokens:
                self.settings.ledger.add(used.cost or 0.0, used.tokens)

    def _trouble_of(self, call: Call) -> InfrastructureError | None:
        if call.given_up:
            return self._trouble
        if call.status != 0 and call.status not in _TROUBLE and not (call.error and call.status < 400):
            return None
        answer = self.redactor.hide_bytes(b"".join(call.pieces))[:300].decode("utf-8", "replace")
        said = self.redactor.hide(call.error) or f"{call.status} {' '.join(answer.split())}"
        fact = f"the last call of a model failed: {said}"
        fix = "see whether key, quota and --harbor-*-base-url are right" if call.status in _LASTING else ""
        if call.error and not call.pieces:
            fix = "see whether the server runs, and whether --harbor-*-base-url is right"
        kind = UnmetRequirement if call.status in _LASTING else InfrastructureError
        return kind(fact, fix, log=self._directory / CALLS if self.settings.log != "off" else None)

    def replay(self, call: Call) -> Recorded | None:
        """Return the recorded answer of a call, None where the call is to be made; may be called from another thread.

        Raises:
            Refusal: it was not recorded, and only what was is answered.

        """
        if self.tape is None or not self.tape.replays:
            return None
        try:
            found = self.tape.answer(call)
        except NotRecorded as error:
            log = self._keep_difference(call, error.difference)
            shown = error.shown(log)
            self.problem = self.problem or UnmetRequirement(
                f"{shown}\n" if error.difference else shown,
                "record it anew with --harbor-proxy=record, or see docs/proxy.md for what may differ",
                log=log,
            )
            self.log(shown)
            call.source, call.error = "proxy", error.fact
            raise Refusal(404, "harbor_not_recorded", shown) from error
        if found is not None:
            call.source = "cassette"
        return found

    def _keep_difference(self, call: Call, lines: list[str]) -> Path | None:
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
    def trouble(self) -> InfrastructureError | None:
        """Why the agent could not work, None where nothing here kept it from that."""
        return self.problem or (None if self.spent else self._trouble)

    def conclude(self, *, ended_well: bool) -> None:
        """Tell the trial's result what came of it, and write the cassette.

        Args:
            ended_well: whether the agent has worked until it was done or out of time.

        Raises:
            InfrastructureError: the agent could not work because of what it met here.

        """
        result = self.context.result
        result.usage = self.usage
        result.budget = self.spent
        if not ended_well:
            return
        self.problem = self.trouble
        if self.tape is not None and self.problem is None:
            try:
                result.warnings += self.tape.keep(cut_short=bool(self.spent) or result.agent_timed_out)
            except OSError as error:
                self.problem = InfrastructureError(f"the cassette {self.tape.path} cannot be written: {error}")
        if self.problem is not None:
            raise self.problem
        if not self._count:
            result.warnings.append("the agent made no call through the proxy; see whether it uses OPENAI_BASE_URL")
