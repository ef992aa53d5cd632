"""Secrets, and the placeholders that replace them in every file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

# A shorter value is not treated as a secret: it would match in many unrelated texts.
MIN_SECRET_LENGTH = 8

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def secret_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables whose names suggest that they hold a secret."""
    return {name: value for name, value in variables.items() if _SECRET_NAME.search(name)}


class Redactor:
    """Replaces secrets with placeholders, and the placeholders of an agent's own secrets with their values.

    Args:
        keys: pairs of a secret that no agent may see and the name of its placeholder.
        own: pairs of a secret that the agent has and the name of its placeholder.

    If two pairs have the same secret, the first one counts. Secrets shorter than MIN_SECRET_LENGTH are ignored.

    """

    def __init__(self, keys: Iterable[tuple[str, str]], own: Iterable[tuple[str, str]] = ()) -> None:
        pairs: dict[str, str] = {}
        self._own: dict[str, str] = {}
        for secrets, is_own in ((keys, False), (own, True)):
            for text, name in secrets:
                if len(text) < MIN_SECRET_LENGTH or text in pairs:
                    continue
                pairs[text] = f"<{name}>"
                if is_own:
                    # Responses are JSON.
                    self._own.setdefault(f"<{name}>", _escape_json(text))
        for text, placeholder in list(pairs.items()):
            pairs.setdefault(_escape_json(text), placeholder)
        # The longest first, as one secret may contain another.
        self._pairs = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def hide(self, text: str) -> str:
        """Return a text with placeholders for secrets."""
        for secret, placeholder in self._pairs:
            text = text.replace(secret, placeholder)
        return text

    def hide_bytes(self, data: bytes) -> bytes:
        """Return data with placeholders for secrets."""
        for secret, placeholder in self._pairs:
            data = data.replace(secret.encode(), placeholder.encode())
        return data

    def restore_own(self, data: bytes) -> bytes:
        """Return JSON with the agent's own secrets for their placeholders."""
        for placeholder, secret in self._own.items():
            data = data.replace(placeholder.encode(), secret.encode())
        return data


def _escape_json(text: str) -> str:
    return json.dumps(text)[1:-1]
