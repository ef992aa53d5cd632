"""Cassettes: the model calls of one agent's attempt at one task, in a file that is meant to be committed."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_harbor._util.files import Digest, write_atomically
from pytest_harbor._util.json_text import has_conflicts, unique_keys
from pytest_harbor._util.text import plural
from pytest_harbor.proxy.cassette_delta import compact, expand
from pytest_harbor.proxy.normalize import request_digest

SCHEMA_VERSION = 1

# Lines of a request that are diffed; the time grows faster than their number.
_MAX_DIFFED_LINES = 20_000


class CassetteError(Exception):
    """A file is not a valid cassette; the message names the file and the reason."""


@dataclass
class RecordedCall:
    """A recorded call and its response.

    Attributes:
        request: method, path and body, normalized so that nothing differs from trial to trial.
        status: the HTTP status of the response.
        headers: the response headers that clients depend on.
        chunks: the response body, in the chunks in which a replay sends it.
        used: whether this trial has replayed the call.

    """

    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    chunks: list[bytes]
    used: bool = False
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = request_digest(self.request)

    def response_to_json(self) -> dict[str, Any]:
        """Return the response as JSON values; text stays readable."""
        response: dict[str, Any] = {"status": self.status, "headers": self.headers}
        try:
            response["body"] = [chunk.decode("utf-8") for chunk in self.chunks]
        except UnicodeDecodeError:
            response["base64"] = [base64.b64encode(chunk).decode() for chunk in self.chunks]
        return response

    @classmethod
    def from_json(cls, request: dict[str, Any], response: Any) -> RecordedCall:
        """Return the call with a response that response_to_json() made.

        Raises:
            ValueError: the response is not valid.

        """
        try:
            status, headers = response["status"], response["headers"]
            if "base64" in response:
                chunks = [base64.b64decode(chunk, validate=True) for chunk in response["base64"]]
            else:
                chunks = [chunk.encode("utf-8") for chunk in response["body"]]
        except (KeyError, TypeError, AttributeError, UnicodeError, binascii.Error) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        texts = isinstance(headers, dict) and all(isinstance(text, str) for text in (*headers, *headers.values()))
        if type(status) is not int or not 200 <= status <= 599 or not texts:
            raise ValueError("the status or the headers are not valid")
        return cls(request, status, headers, chunks)


def cassette_path(root: Path, task: str, agent: str, attempt: int, confirmation: int = 0) -> Path:
    """Return the path of a cassette.

    Args:
        root: the directory of all cassettes.
        task: the id of the task.
        agent: the name of the agent.
        attempt: the number of the attempt.
        confirmation: the number of a confirmation trial of a task that newly failed; 0 for the attempt itself.

    """
    dataset, _, name = task.rpartition("/")
    number = f"{attempt}.confirm{confirmation}" if confirmation else f"{attempt}"
    return root / _file_name(dataset) / _file_name(name) / f"{_file_name(agent)}.{number}.json"


def _file_name(name: str) -> str:
    """Return a name that is valid on any file system; different names stay different."""
    kept = re.sub(r"[^A-Za-z0-9._ -]", "_", name).lstrip(".")[:100].strip()
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


class Cassette:
    """The recorded calls of one trial.

    Args:
        path: the file.
        calls: the calls read from it.

    """

    def __init__(self, path: Path, calls: list[RecordedCall] | None = None) -> None:
        self.path = path
        self._old = calls or []
        self._new: list[RecordedCall] = []
        self._order: list[RecordedCall] = []
        # Simultaneous calls arrive from several threads.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Cassette:
        """Read a cassette.

        Raises:
            FileNotFoundError: there is no such file.
            CassetteError: the file cannot be read or is not a valid cassette.

        """
        try:
            text = path.read_text(encoding="utf-8")
            if has_conflicts(text):
                raise ValueError("it has merge conflicts")
            data = unique_keys(text)
            version = data.get("schema_version") if isinstance(data, dict) else None
            if version != SCHEMA_VERSION or not isinstance(data.get("calls"), list):
                raise ValueError(f"schema version {version!r} is not {SCHEMA_VERSION}, or it has no calls")
            if not all(isinstance(call, dict) for call in data["calls"]):
                raise ValueError("a call is not an object")
            requests = expand([call.get("request") for call in data["calls"]])
            responses = [call.get("response") for call in data["calls"]]
            calls = [RecordedCall.from_json(*pair) for pair in zip(requests, responses, strict=True)]
            if data.get("digest", _digest(calls)) != _digest(calls):
                raise ValueError("its calls are not those of one recording, perhaps after a merge")
            return cls(path, calls)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise CassetteError(f"{path} is not a valid cassette: {error}") from error

    @property
    def unused_count(self) -> int:
        """The number of calls in the file that were not replayed."""
        return sum(not call.used for call in self._old)

    @property
    def old_count(self) -> int:
        """The number of calls in the file."""
        return len(self._old)

    @property
    def has_new(self) -> bool:
        """Whether calls were recorded."""
        return bool(self._new)

    def take(self, request: dict[str, Any]) -> RecordedCall | None:
        """Return the first unused call with an equal request and mark it as used; None if there is none."""
        digest = request_digest(request)
        with self._lock:
            for call in self._old:
                if call.digest == digest and not call.used:
                    call.used = True
                    self._order.append(call)
                    return call
        return None

    def add(self, call: RecordedCall) -> None:
        """Record a call. A success replaces earlier failures of an equal call."""
        with self._lock:
            if call.status < 400:
                failed = [old for old in self._new if old.digest == call.digest and old.status >= 400]
                self._new = [old for old in self._new if old not in failed]
                self._order = [old for old in self._order if old not in failed]
            self._new.append(call)
            self._order.append(call)

    def closest(self, request: dict[str, Any]) -> tuple[str, list[str]]:
        """Return why a request has no recorded call left, and how it differs from the closest recorded request.

        Returns:
            A phrase, and the lines of a unified diff; no lines if there is nothing to compare with.

        """
        digest = request_digest(request)
        equal = sum(call.digest == digest for call in self._old)
        if equal:
            return f"it was recorded {plural(equal, 'time')} and requested once more", []
        if not self._old:
            return "the cassette is empty", []
        mine = _lines(request)
        candidates = [call for call in self._old if not call.used] or self._old
        best = max(candidates, key=lambda call: _similarity(mine, _lines(call.request)))
        number = self._old.index(best) + 1
        lines = difflib.unified_diff(
            _lines(best.request), mine, f"recorded call {number}", "this call", n=2, lineterm=""
        )
        return f"the closest is recorded call {number} of {len(self._old)}", list(lines)

    def write(self, *, keep_unused: bool) -> None:
        """Write the calls that this trial replayed and recorded, in that order.

        Args:
            keep_unused: whether to keep calls that were not replayed, because the trial was cut short.

        Raises:
            OSError: the file cannot be written.

        """
        calls = [*self._order, *(call for call in self._old if keep_unused and not call.used)]
        requests = compact([call.request for call in calls])
        pairs = [
            {"request": request, "response": call.response_to_json()}
            for request, call in zip(requests, calls, strict=True)
        ]
        data = {"schema_version": SCHEMA_VERSION, "digest": _digest(calls), "calls": pairs}
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        # Several tests may run the same agent on the same task at the same time, in separate processes.
        write_atomically(self.path, _encodable(text))


def split_body(body: bytes, *, streamed: bool) -> list[bytes]:
    """Return a body in chunks: the events of a stream, or the lines of anything else."""
    end = (b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n") if streamed else b"\n"
    *complete, last = body.split(end)
    return [*(chunk + end for chunk in complete), *([last] if last else [])]


def _digest(calls: Sequence[RecordedCall]) -> str:
    """Return a digest of the requests in their order.

    A clean merge of two recordings may repeat calls, or base the delta of a request on another one than was meant.
    """
    digest = Digest()
    digest.add(*(_encodable(json.dumps(call.request, sort_keys=True, ensure_ascii=False)) for call in calls))
    return digest.hex()[:16]


def _encodable(text: str) -> str:
    """Return a text that can be encoded as UTF-8; a lone surrogate is valid in JSON and cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(request: dict[str, Any]) -> list[str]:
    """Return a request as lines for a diff; line breaks inside its texts start new lines."""
    text = json.dumps(request, indent=1, ensure_ascii=False, sort_keys=True)
    return text.replace("\\n", "\\n\n").splitlines()[:_MAX_DIFFED_LINES]


def _similarity(mine: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, mine, other, autojunk=False).quick_ratio()
