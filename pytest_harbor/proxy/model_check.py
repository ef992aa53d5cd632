"""A check of a model's server before anything is built: a wrong URL, key or model name is found at no cost.

Only definitive answers count. A server that lists no models, or answers too slowly, passes.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any
from urllib.parse import quote

from pytest_harbor._util.text import alternatives, listed, one_line
from pytest_harbor.proxy.access import UNKNOWN_MODEL
from pytest_harbor.proxy.endpoints import Vendor
from pytest_harbor.proxy.settings import DEFAULT_URLS, Upstream

# Seconds.
TIMEOUT = 5.0
_MAX_BYTES = 16 << 20
_SHOWN = 8
_VERSION = re.compile(r"/v\d")
# What servers that accept any name call themselves in their list of models.
_ACCEPT_ANY_NAME = frozenset({"llamacpp", "sglang"})
_PROBES: dict[Vendor, str] = {"openai": "/chat/completions", "anthropic": "/messages"}


@dataclass(frozen=True)
class Reply:
    """The response of a server; the status is 0 if there is none.

    Attributes:
        status: the HTTP status.
        body: the body as JSON, or as text.
        problem: why nothing can be reached there; empty if that is not certain.

    """

    status: int
    body: Any = None
    problem: str = ""


def find_model_problem(vendor: Vendor, upstream: Upstream, model: str, *, probe: bool = False) -> str:
    """Return what is certainly wrong with the server, the key or the name of a model, with the fix, or "".

    Args:
        vendor: the API that the server speaks.
        upstream: the server.
        model: the model's name; empty if it is not known.
        probe: whether the model may be asked for one token.

    """
    setting = f"{vendor.upper()}_BASE_URL or --harbor-{vendor}-base-url"
    listing = _request(vendor, upstream, "/models")
    if listing.problem and upstream.url != DEFAULT_URLS[vendor]:
        return f"the model server {upstream.shown_url} {listing.problem}; check {setting}"
    if listing.status == 401 and "scope" not in str(listing.body):
        what = "refuses the key" if upstream.key else "requires a key"
        return f"the model server {upstream.shown_url} {what} (401); check {vendor.upper()}_API_KEY and {setting}"
    if listing.status in (200, 404) and _model_entries(listing.body) is None and not _VERSION.search(upstream.url):
        versioned = Upstream(f"{upstream.url}/v1", upstream.key)
        if _model_entries(_request(vendor, versioned, "/models").body) is not None:
            return (
                f"the model server {upstream.shown_url} serves its API at {versioned.shown_url}; add /v1 to {setting}"
            )
    if not model:
        return ""
    if probe:
        return _probe(vendor, upstream, model)
    return _unlisted(vendor, upstream, model, _model_entries(listing.body) or [])


def _unlisted(vendor: Vendor, upstream: Upstream, model: str, entries: list[dict[str, Any]]) -> str:
    """Return that a server does not list a model, or "" if it does, or may know it all the same."""
    names = [entry["id"] for entry in entries]
    if not names or any(_is_same(model, name) for name in names):
        return ""
    if any(entry.get("owned_by") in _ACCEPT_ANY_NAME for entry in entries):
        return ""
    # Aliases are not listed, but found by name.
    if _request(vendor, upstream, f"/models/{quote(model, safe='/:')}").status == 200:
        return ""
    near = get_close_matches(model, names, 3) or [name for name in names if name.rpartition("/")[2] == model][:3]
    hint = f"it has {listed(names, _SHOWN)}."
    if near:
        hint = f"did you mean {alternatives([repr(name) for name in near])}?"
    return (
        f"the model server {upstream.shown_url} has no model {model!r}; {hint} If it accepts names that it does not "
        "list, use --harbor-check-model=off"
    )


def _is_same(model: str, name: str) -> bool:
    """Return True if a listed name stands for a model: also one with a tag or variant, or a wildcard of a gateway."""
    is_variant = name in (f"{model}:latest", model.partition(":")[0])
    return model == name or is_variant or (name.endswith("*") and model.startswith(name[:-1]))


def _probe(vendor: Vendor, upstream: Upstream, model: str) -> str:
    """Ask a model for one token."""
    message = {"role": "user", "content": "Hi"}
    reply = _request(vendor, upstream, _PROBES[vendor], {"model": model, "max_tokens": 1, "messages": [message]})
    text = json.dumps(reply.body)
    unknown = reply.status in (400, 422) and UNKNOWN_MODEL.search(text)
    if not unknown and reply.status not in (401, 402, 403, 404):
        return ""
    return f"the model server {upstream.shown_url} refuses the model {model!r}: {reply.status} {one_line(text)}"


def _model_entries(body: Any) -> list[dict[str, Any]] | None:
    """Return the entries of a list of models, or None if a body is something else."""
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


@cache
def _opener() -> urllib.request.OpenerDirector:
    class NoRedirects(urllib.request.HTTPRedirectHandler):
        # The key must not follow a redirect to another server.
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirects)


def _request(vendor: Vendor, upstream: Upstream, path: str, body: Any = None) -> Reply:
    """Send a request, a POST if it has a body."""
    headers = {"User-Agent": "pytest-harbor", "Accept": "application/json", "Content-Type": "application/json"}
    if vendor == "anthropic":
        headers |= {"anthropic-version": "2023-06-01", **({"x-api-key": upstream.key} if upstream.key else {})}
    elif upstream.key:
        headers["Authorization"] = f"Bearer {upstream.key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(upstream.url + path, data, headers)
        with _opener().open(request, timeout=TIMEOUT) as response:
            return Reply(response.status, _parsed(response.read(_MAX_BYTES)))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _parsed(error.read(_MAX_BYTES)))
    except urllib.error.URLError as error:
        return Reply(0, problem=_certain(error.reason))
    except Exception:
        # Also what a test suite that patches or blocks sockets raises: the trials will show what is wrong.
        return Reply(0)


def _certain(reason: object) -> str:
    """Return a phrase for an error that a retry does not overcome, or ""."""
    if isinstance(reason, ConnectionRefusedError):
        return "cannot be reached: connection refused"
    if isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME:
        return "cannot be reached: its host does not exist"
    return ""


def _parsed(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
