"""Normalization of requests: details that differ between a recording and a replay become placeholders.

docs/proxy.md lists the rules for users.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

# Fields that identify the caller and do not change the response.
IGNORED_FIELDS = ("user", "metadata", "prompt_cache_key", "safety_identifier", "client_metadata")

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?"
RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<uuid>"),
    (
        re.compile(
            r"\b(?:chatcmpl|call|toolu|srvtoolu|msg|resp|rs|fc|ws|ctc)[-_](?=[A-Za-z_-]{0,64}\d)[A-Za-z0-9_-]{12,}"
        ),
        "<id>",
    ),
    (re.compile(rf"\b\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]{_CLOCK}(?: ?(?:Z|UTC|GMT|[+-]\d{{2}}:?\d{{2}}))?)?"), "<date>"),
    (
        re.compile(
            rf"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:{_MONTHS}) {{1,2}}\d{{1,2}},? {{1,2}}(?:{_CLOCK}|\d{{4}})"
            rf"(?: [A-Z]{{3,4}})?(?: \d{{4}})?"
        ),
        "<date>",
    ),
    (re.compile(rf"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{{1,2}} (?:{_MONTHS}) \d{{4}} {_CLOCK} \S+"), "<date>"),
    (re.compile(r"\b\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"(?<![\w.])\d+\.\d+ ?(?:ms|s|secs?|seconds?|minutes?)\b"), "<duration>"),
    (re.compile(r"\b\d+m\d+(?:\.\d+)?s\b"), "<duration>"),
    (re.compile(r"(?<=/)tmp[.-]?[A-Za-z0-9_]{6,12}\b"), "<temporary>"),
    (re.compile(r"\b0x[0-9a-f]{6,16}\b"), "<address>"),
)
_IMAGE = re.compile(r"(data:[\w/+.-]{1,100};base64,)?(?<![A-Za-z0-9+/])([A-Za-z0-9+/]{1024,}={0,2})")


def normalize(value: Any, placeholders: Sequence[tuple[str, str]]) -> Any:
    """Return a JSON value of a request with placeholders for everything that differs from trial to trial.

    Args:
        value: any JSON value.
        placeholders: pairs of a text specific to this trial, such as its id, and its placeholder.

    """
    if isinstance(value, str):
        return _normalize_text(value, placeholders)
    if isinstance(value, list):
        return [normalize(entry, placeholders) for entry in value]
    if isinstance(value, dict):
        return {_normalize_text(key, placeholders): normalize(entry, placeholders) for key, entry in value.items()}
    return value


def normalize_body(value: Any, placeholders: Sequence[tuple[str, str]]) -> Any:
    """Return a request body normalized, without the top-level fields that only identify the caller."""
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key not in IGNORED_FIELDS}
    return normalize(value, placeholders)


def _normalize_text(text: str, placeholders: Sequence[tuple[str, str]]) -> str:
    for specific, placeholder in placeholders:
        text = text.replace(specific, placeholder)
    if len(text) >= 1024:
        text = _IMAGE.sub(lambda match: f"{match[1] or ''}<sha256:{_digest(match[2])}>", text)
    for pattern, placeholder in RULES:
        text = pattern.sub(placeholder, text)
    return text


def request_digest(request: Any) -> str:
    """Return the SHA-256 of a normalized request; the order of keys does not matter."""
    return _digest(json.dumps(request, sort_keys=True, ensure_ascii=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
