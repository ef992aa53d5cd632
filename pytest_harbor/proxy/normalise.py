"""What of a request may differ between a recording and a replay, and is made equal before the two are compared.

docs/proxy.md lists these rules for users.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

# Fields of requests that say who asks, and nothing about what.
LEFT_OUT = ("user", "metadata", "prompt_cache_key", "safety_identifier", "client_metadata")

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


def normalise(value: Any, facts: Sequence[tuple[str, str]]) -> Any:
    """Return a request's JSON with placeholders for what differs from trial to trial.

    Args:
        value: any JSON value.
        facts: pairs of a text of this very trial and what stands for it, such as its id.

    """
    if isinstance(value, str):
        return _text(value, facts)
    if isinstance(value, list):
        return [normalise(entry, facts) for entry in value]
    if isinstance(value, dict):
        return {_text(key, facts): normalise(entry, facts) for key, entry in value.items()}
    return value


def normalise_body(value: Any, facts: Sequence[tuple[str, str]]) -> Any:
    """Return a whole request body so, without the fields that only say who asks."""
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key not in LEFT_OUT}
    return normalise(value, facts)


def _text(text: str, facts: Sequence[tuple[str, str]]) -> str:
    for found, placeholder in facts:
        text = text.replace(found, placeholder)
    if len(text) >= 1024:
        text = _IMAGE.sub(lambda match: f"{match[1] or ''}<sha256:{_digest(match[2])}>", text)
    for pattern, placeholder in RULES:
        text = pattern.sub(placeholder, text)
    return text


def key_of(request: Any) -> str:
    """Return what equal requests have in common."""
    return _digest(json.dumps(request, sort_keys=True, ensure_ascii=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
