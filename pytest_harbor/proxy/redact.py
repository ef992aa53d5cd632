"""Secrets, and what stands for them in whatever is written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

# Anything shorter is no secret, and stands in many texts that have nothing to do with it.
SHORTEST = 8

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def secret_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hold secrets, by the sound of their names."""
    return {name: value for name, value in variables.items() if _SECRET.search(name)}


class Redactor:
    """Replaces secrets by placeholders, and back.

    Args:
        secrets: pairs of a secret and the name of its placeholder; one that is too short is left out.

    """

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        pairs = {text: f"<{name}>" for text, name in secrets if len(text) >= SHORTEST}
        # As it stands in JSON, too. The longest first, as one may be a part of another.
        for text, placeholder in list(pairs.items()):
            pairs.setdefault(json.dumps(text)[1:-1], placeholder)
        self._pairs = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def hide(self, text: str) -> str:
        """Return a text with placeholders."""
        for secret, placeholder in self._pairs:
            text = text.replace(secret, placeholder)
        return text

    def show_bytes(self, data: bytes) -> bytes:
        """Return data with secrets where its placeholders are."""
        for secret, placeholder in reversed(self._pairs):
            data = data.replace(placeholder.encode(), secret.encode())
        return data

    def hide_bytes(self, data: bytes) -> bytes:
        """Return data with placeholders."""
        for secret, placeholder in self._pairs:
            data = data.replace(secret.encode(), placeholder.encode())
        return data
