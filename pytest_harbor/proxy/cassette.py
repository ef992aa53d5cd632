"""Cassettes: the calls of one agent at one attempt at one task, kept in a file that is meant to be committed."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_harbor.proxy.cassette_delta import compact, expand
from pytest_harbor.proxy.normalise import key_of

SCHEMA_VERSION = 1

# Lines of a difference that are shown; the rest is in the trial's directory.
SHOWN = 40
# Lines of a request that are compared; the time it takes grows faster than their number.
COMPARED = 20_000


class CassetteError(Exception):
    """A file is no cassette; the message names it and says why."""


@dataclass
class Recorded:
    """A call and its answer.

    Attributes:
        request: method, path and body, normalised: nothing in it differs from trial to trial.
        status: HTTP status of the answer.
        headers: what of its headers a client goes by.
        pieces: the answer's body, in the pieces that a replay sends it in.
        used: whether this trial has been given the answer.

    """

    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    pieces: list[bytes]
    used: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = key_of(self.request)

    @property
    def response(self) -> dict[str, Any]:
        """The answer as plain JSON values; text stays readable."""
        answer: dict[str, Any] = {"status": self.status, "headers": self.headers}
        try:
            answer["body"] = [piece.decode("utf-8") for piece in self.pieces]
        except UnicodeDecodeError:
            answer["base64"] = [base64.b64encode(piece).decode() for piece in self.pieces]
        return answer

    @classmethod
    def of(cls, request: dict[str, Any], answer: Any) -> Recorded:
        """Return a call with an answer as `response` had it.

        Raises:
            ValueError: it is none.

        """
        try:
            status, headers = answer["status"], answer["headers"]
            if "base64" in answer:
                pieces = [base64.b64decode(piece, validate=True) for piece in answer["base64"]]
            else:
                pieces = [piece.encode("utf-8") for piece in answer["body"]]
        except (KeyError, TypeError, AttributeError, UnicodeError, binascii.Error) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        texts = isinstance(headers, dict) and all(isinstance(text, str) for text in (*headers, *headers.values()))
        if type(status) is not int or not 200 <= status <= 599 or not texts:
            raise ValueError("status or headers are none")
        return cls(request, status, headers, pieces)


def place_of(root: Path, task: str, agent: str, attempt: int, confirmation: int = 0) -> Path:
    """Return the file of a cassette.

    Args:
        root: the directory of all cassettes.
        task: id of the task.
        agent: name of the agent.
        attempt: number of the attempt.
        confirmation: number of a further trial of a task that newly failed; 0 for an attempt.

    """
    dataset, _, name = task.rpartition("/")
    number = f"{attempt}.confirm{confirmation}" if confirmation else f"{attempt}"
    return root / _safe(dataset) / _safe(name) / f"{_safe(agent)}.{number}.json"


def _safe(name: str) -> str:
    """Return a name as part of a path on any file system; equal ones only for equal names."""
    kept = re.sub(r"[^A-Za-z0-9._ -]", "_", name).lstrip(".")[:100].strip()
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


class Cassette:
    """The calls of one trial.

    Args:
        path: the file.
        calls: those that it held.

    """

    def __init__(self, path: Path, calls: list[Recorded] | None = None) -> None:
        self.path = path
        self._old = calls or []
        self._new: list[Recorded] = []
        self._order: list[Recorded] = []
        # Calls that go on at the same time come from several threads.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Cassette:
        """Read a cassette.

        Raises:
            FileNotFoundError: there is none.
            CassetteError: it cannot be read, or is none.

        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version = data.get("schema_version") if isinstance(data, dict) else None
            if version != SCHEMA_VERSION or not isinstance(data.get("calls"), list):
                raise ValueError(f"schema version {version!r} is not {SCHEMA_VERSION}, or it has no calls")
            if not all(isinstance(call, dict) for call in data["calls"]):
                raise ValueError("a call is no object")
            requests = expand([call.get("request") for call in data["calls"]])
            answers = [call.get("response") for call in data["calls"]]
            return cls(path, [Recorded.of(*pair) for pair in zip(requests, answers, strict=True)])
        except FileNotFoundError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise CassetteError(f"{path} is no cassette: {error}") from error

    @property
    def unused(self) -> int:
        """How many of the recorded calls were not asked for."""
        return sum(not call.used for call in self._old)

    @property
    def recorded(self) -> int:
        """How many calls it held."""
        return len(self._old)

    @property
    def has_new(self) -> bool:
        """Whether something was recorded."""
        return bool(self._new)

    def find(self, request: dict[str, Any]) -> Recorded | None:
        """Return the first recorded call that equals a request and was not asked for yet; that is taken then."""
        key = key_of(request)
        with self._lock:
            for call in self._old:
                if call.key == key and not call.used:
                    call.used = True
                    self._order.append(call)
                    return call
        return None

    def add(self, call: Recorded) -> None:
        """Keep a call. Earlier failures of the very same call are forgotten: only what became of it counts."""
        with self._lock:
            if call.status < 400:
                failed = [old for old in self._new if old.key == call.key and old.status >= 400]
                self._new = [old for old in self._new if old not in failed]
                self._order = [old for old in self._order if old not in failed]
            self._new.append(call)
            self._order.append(call)

    def nearest(self, request: dict[str, Any]) -> tuple[str, list[str]]:
        """Return what to say of a request that was not recorded, and how it differs from the nearest one that was.

        Returns:
            A phrase, and the lines of a unified difference, none where there is nothing to compare with.

        """
        equal = sum(call.key == key_of(request) for call in self._old)
        if equal:
            return f"it was recorded {equal} time{'s' * (equal > 1)} and was asked for once more", []
        if not self._old:
            return "nothing was recorded", []
        mine = _lines(request)
        candidates = [call for call in self._old if not call.used] or self._old
        best = max(candidates, key=lambda call: _likeness(mine, _lines(call.request)))
        number = self._old.index(best) + 1
        lines = difflib.unified_diff(
            _lines(best.request), mine, f"recorded call {number}", "this call", n=2, lineterm=""
        )
        return f"the nearest is call {number} of {len(self._old)}", list(lines)

    def write(self, *, everything: bool) -> None:
        """Write the file: what this trial has used and recorded, in that order.

        Args:
            everything: keep also what the file held and was not asked for, as the trial was cut short.

        Raises:
            OSError: it cannot be written.

        """
        calls = [*self._order, *(call for call in self._old if everything and not call.used)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Several tests may have trials of the same agent at the same task, in processes of their own.
        scratch = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        requests = compact([call.request for call in calls])
        pairs = [{"request": request, "response": call.response} for request, call in zip(requests, calls, strict=True)]
        data = {"schema_version": SCHEMA_VERSION, "calls": pairs}
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        # Half a surrogate pair is JSON, and no UTF-8.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        try:
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(self.path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def pieces_of(body: bytes, *, streamed: bool) -> list[bytes]:
    """Return a body in pieces: the events of a stream, the lines of anything else."""
    end = (b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n") if streamed else b"\n"
    *whole, last = body.split(end)
    return [*(piece + end for piece in whole), *([last] if last else [])]


def _lines(request: dict[str, Any]) -> list[str]:
    """Return the first lines of a request to compare: long texts in lines of their own."""
    text = json.dumps(request, indent=1, ensure_ascii=False, sort_keys=True)
    return text.replace("\\n", "\\n\n").splitlines()[:COMPARED]


def _likeness(mine: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, mine, other, autojunk=False).quick_ratio()
